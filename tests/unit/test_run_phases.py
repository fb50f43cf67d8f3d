"""The processes of a run: their exit codes, and when they load libraries."""

import os
import signal
import sys

import pytest

from db import run_phases
from db.run_phases import Ahead, Fork


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


def test_who_goes_on_is_told_the_flags_again(monkeypatch, capsys):
    monkeypatch.setenv("MDM_SOURCES_FILE", "/srv/our sources.toml")
    monkeypatch.setenv("MDM_RUNTIME", "external")
    assert run_phases.failed("3", "staging/run_staging.py", 2) == 2
    told = "./run_mdm_pipeline.sh --from 3 --sources '/srv/our sources.toml' --runtime external\n"
    assert capsys.readouterr().err.endswith(told)
    monkeypatch.delenv("MDM_SOURCES_FILE")
    monkeypatch.delenv("MDM_RUNTIME")
    run_phases.failed("3", "staging/run_staging.py", 1)
    assert capsys.readouterr().err.endswith("--from 3\n")


def test_nothing_runs_before_its_turn_or_without_one(fork, tmp_path):
    started = fork(f"open({str(tmp_path / 'ran')!r}, 'w')")
    started.dismiss()
    assert not (tmp_path / "ran").exists()


def test_it_belongs_to_the_run_it_is_told_of(fork):
    started = fork("import sys; from db import phase; sys.exit(phase._joined_run)")
    started.begin(42)
    assert started.end() == 42


def test_who_has_work_says_so_before_it_ends(fork):
    busy = fork("from db import phase; phase._on_work()")
    busy.begin(0)
    assert busy.has_work()
    assert busy.end() == 0
    idle = fork("")
    idle.begin(0)
    assert not idle.has_work()
    assert idle.end() == 0


def test_who_has_ended_is_known(fork):
    slow = fork("import time; time.sleep(0.3)")
    slow.begin(0)
    assert not slow.has_ended()
    assert slow.end() == 0
    quick = fork("")
    quick.begin(0)
    os.waitid(os.P_PID, quick.pid, os.WEXITED | os.WNOWAIT)
    assert quick.has_ended()
    assert quick.end() == 0


@pytest.mark.parametrize(
    ("working", "later", "code"),
    [
        ("from db import phase; phase._on_work()", "# works with polars", 7),
        ("", "# works with polars", 0),  # nothing new
        ("from db import phase; phase._on_work()", "", 0),  # in SQL alone
    ],
)
def test_libraries_are_loaded_once_there_is_work_for_who_needs_them(
    tmp_path, monkeypatch, working, later, code
):
    monkeypatch.setattr(run_phases, "LIBRARIES", ("sched",))  # of the standard library, used by nothing here
    monkeypatch.delitem(sys.modules, "sched", raising=False)
    first, second = tmp_path / "first.py", tmp_path / "second.py"
    first.write_text(f"{working}\nimport time; time.sleep(0.2)")
    second.write_text(f"import sys; sys.exit(7 if 'sched' in sys.modules else 0)  {later}")
    ahead = Ahead()
    started = ahead.next(str(first))
    started.begin(0)
    ahead.get_ready(started, [("", "", str(second))], False)
    assert started.end() == 0
    started = ahead.next(str(second))
    started.begin(0)
    assert started.end() == code
    assert not ahead.forks


@pytest.mark.parametrize("has_time", [True, False])
def test_who_has_time_imports_ahead_what_its_functions_import(tmp_path, monkeypatch, has_time):
    monkeypatch.delitem(sys.modules, "sched", raising=False)
    path = tmp_path / "script.py"
    path.write_text(
        "import sys\ndef main():\n    from no_such_module import nothing\n    from sched import scheduler\n"
        "sys.exit(7 if 'sched' in sys.modules else 0)"
    )
    started = Fork(str(path), has_time=has_time)
    started.begin(0)
    assert started.end() == (7 if has_time else 0)


def test_ctrl_c_in_the_middle_of_a_fork_is_not_lost(fork):
    at_fork = [lambda: signal.raise_signal(signal.SIGINT)]
    os.register_at_fork(before=lambda: at_fork and at_fork.pop()())
    with pytest.raises(KeyboardInterrupt):
        fork("")
    assert at_fork == []
    started = fork("")
    started.begin(0)
    assert started.end() == 0


def test_ctrl_c_before_its_script_is_there_needs_no_traceback(fork, capfd):
    started = fork("")
    os.kill(started.pid, signal.SIGINT)
    started.begin(0)
    assert started.end() == 128 + signal.SIGINT
    assert capfd.readouterr().err == ""


def test_who_was_ended_while_waiting_has_that_as_its_code(fork):
    started = fork("")
    os.kill(started.pid, signal.SIGKILL)
    os.waitid(os.P_PID, started.pid, os.WEXITED | os.WNOWAIT)
    started.begin(0)
    assert started.end() == 128 + signal.SIGKILL
