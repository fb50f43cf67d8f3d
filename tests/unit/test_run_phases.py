"""The processes of a run: their exit codes, and when they load libraries."""

import os
import signal

import pytest

from db import run_phases
from db.run_phases import Fork


@pytest.fixture
def fork(tmp_path):
    """Makes a process that runs a script of the given text."""

    def make(text: str) -> Fork:
        path = tmp_path / "script.py"
        path.write_text(text)
        return Fork(str(path))

    return make


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("", 0),
        ("import sys; sys.exit(3)", 3),
        ("import sys; sys.exit('why')", 1),
        ("raise SystemExit", 0),
        ("raise ValueError('shown')", 1),
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", 128 + signal.SIGKILL),
    ],
)
def test_a_script_ends_with_its_own_code(fork, text, code):
    started = fork(text)
    started.begin(0)
    assert started.end() == code


def test_nothing_runs_before_its_turn_or_without_one(fork, tmp_path):
    started = fork(f"open({str(tmp_path / 'ran')!r}, 'w')")
    started.dismiss()
    assert not (tmp_path / "ran").exists()


def test_it_belongs_to_the_run_it_is_told_of(fork):
    started = fork("import sys; from db import phase; sys.exit(phase._joined_run)")
    started.begin(42)
    assert started.end() == 42


def test_libraries_are_loaded_when_told_to_and_only_by_who_needs_them(fork, monkeypatch):
    monkeypatch.setattr(run_phases, "LIBRARIES", ("sched",))  # of the standard library, used by nothing here
    text = "import sys; sys.exit(7 if 'sched' in sys.modules else 0)  # works with polars"
    idle, loaded = fork(text), fork(text)
    assert idle.is_to_load() and loaded.is_to_load()
    loaded.load()
    assert not loaded.is_to_load()
    for started in (idle, loaded):
        started.begin(0)
    assert (idle.end(), loaded.end()) == (0, 7)
    plain = fork("")
    assert not plain.is_to_load()
    plain.dismiss()


def test_who_ends_at_once_is_known(fork):
    quick = fork("")
    quick.begin(0)
    assert quick.ends_within(10)
    assert quick.end() == 0
    slow = fork("import time; time.sleep(0.5)")
    slow.begin(0)
    assert not slow.ends_within(0.05)
    assert slow.end() == 0


def test_who_was_ended_while_waiting_has_that_as_its_code(fork):
    started = fork("")
    os.kill(started.pid, signal.SIGKILL)
    os.waitid(os.P_PID, started.pid, os.WEXITED | os.WNOWAIT)
    started.load()
    started.begin(0)
    assert started.end() == 128 + signal.SIGKILL
