"""Who waits for whom: runs, erasures, and sessions that leave a transaction open."""

import os
import signal
import subprocess
import sys
import threading

import pytest
from psycopg2.errors import RaiseException

from db import phase, postgres, run_phases
from db.errors import Busy, MdmError
from db.phase import LOCK_NAMESPACE, hold_run, let_go_of_run
from db.postgres import connect
from db.settings import PROJECT
from tests.pipeline import record


@pytest.fixture
def run_at_work(database):
    hold_run()
    yield
    let_go_of_run()


@pytest.fixture
def hasty(monkeypatch):
    """Nobody waits long for a lock."""
    monkeypatch.setattr(phase, "PATIENCE", 0)
    monkeypatch.setattr(phase, "PATIENCE_WITH_STRANGERS", 1)


@pytest.fixture
def customer(database):
    """A customer without records."""
    database.execute(
        "insert into identity.customers (global_customer_id, status, record_count, created_run_id, run_id) "
        "values (gen_random_uuid(), 'closed', 0, 1, 1)"
    )
    return database.query("select global_customer_id::text from identity.customers")[0][0]


def erase(database, customer):
    database.query("select gold.erase_customer(%s, 'dpo', 'asked')", (customer,))


def test_nobody_is_erased_between_two_phases_of_a_run(database, customer, run_at_work):
    with pytest.raises(RaiseException, match="a run is at work"):
        erase(database, customer)
    let_go_of_run()
    erase(database, customer)


def test_a_run_holds_its_lock_from_its_first_phase_to_its_last(database, tmp_path):
    script, last = tmp_path / "script.py", tmp_path / "last.py"
    asks = (
        "from db.postgres import connect\nwith connect() as connection, connection.cursor() as cursor:\n"
        f"    cursor.execute('select pg_try_advisory_xact_lock({LOCK_NAMESPACE}, 2)')\n"
        "    assert cursor.fetchone() == (%s,)\n"
    )
    script.write_text(asks % False)
    last.write_text(asks % True)
    handler = signal.getsignal(signal.SIGTERM)
    try:
        assert run_phases.main([f"1|one|{script}", f"2|two|{script}", f"||{last}"]) == 0
    finally:
        signal.signal(signal.SIGTERM, handler)


def test_a_second_run_is_refused(database, stores, hasty, run_at_work):
    hold = "from db import phase; phase.PATIENCE = 0; phase.hold_run()"
    ended = subprocess.run(
        [sys.executable, "-c", hold],
        cwd=PROJECT,
        env=stores.environment(database),
        capture_output=True,
        text=True,
    )
    assert "Another run is at work" in ended.stderr


def test_a_run_that_was_killed_is_not_waited_for_though_its_forks_live(database, stores):
    killed = (
        "import os, signal, time\nfrom db.phase import hold_run\nhold_run()\nchild = os.fork()\n"
        "if child == 0: time.sleep(60)\nprint(child, flush=True)\nos.kill(os.getpid(), signal.SIGKILL)"
    )
    ended = subprocess.Popen(
        [sys.executable, "-c", killed], cwd=PROJECT, env=stores.environment(database), stdout=subprocess.PIPE
    )
    child = int(ended.stdout.readline())
    assert ended.wait() == -signal.SIGKILL
    try:
        os.kill(child, 0)
        hold_run()
    finally:
        os.kill(child, signal.SIGKILL)
        let_go_of_run()


def test_an_erasure_is_waited_for_and_one_left_open_is_named(database, customer, hasty):
    with database.connect() as connection, connection.cursor() as cursor:
        cursor.execute("set application_name = 'psql'")
        cursor.execute("select gold.erase_customer(%s, 'dpo', 'asked')", (customer,))
        with pytest.raises(Busy, match=rf"process {connection.info.backend_pid} \(psql, since"):
            hold_run()
        let_go_of_run()
        threading.Timer(0.3, connection.commit).start()
        hold_run()
        let_go_of_run()


def test_a_session_that_ends_while_it_is_looked_for_leaves_its_lock(database, hasty, monkeypatch):
    with database.connect() as connection, connection.cursor() as cursor:
        cursor.execute("select pg_advisory_xact_lock(%s, 2)", (LOCK_NAMESPACE,))
        monkeypatch.setattr(phase, "strangers_with_locks", lambda *_: connection.commit() or [])
        hold_run()
        let_go_of_run()


def test_a_transaction_left_open_is_named_and_not_waited_for_for_ever(database, monkeypatch):
    monkeypatch.setitem(postgres.SESSION, "lock_timeout", "100ms")
    with database.connect() as left_open, left_open.cursor() as cursor:
        cursor.execute("set application_name = 'psql'; select from staging.candidate_lists")
        named = rf"process {left_open.info.backend_pid} \(psql, since .*\)\. .*run again"
        with pytest.raises(MdmError, match=named), connect() as connection:
            connection.cursor().execute("truncate staging.candidate_lists")


def test_a_lock_of_nobody_in_sight_is_looked_for_by_a_query(database, monkeypatch):
    monkeypatch.setitem(postgres.SESSION, "lock_timeout", "100ms")
    with connect() as holder:
        holder.cursor().execute("lock table staging.candidate_lists")
        with pytest.raises(MdmError, match="state like 'idle in transaction%'"), connect() as connection:
            connection.cursor().execute("truncate staging.candidate_lists")


def test_who_reads_replaced_versions_does_not_stop_phase_4(pipelines, monkeypatch):
    monkeypatch.setitem(postgres.SESSION, "lock_timeout", "100ms")
    pipeline = pipelines()
    pipeline.deliver(record("shop:1", name="Astrid Holm"))
    with pipeline.database.connect() as dump:
        dump.cursor().execute("select from staging.replaced_versions")
        pipeline.run("2", "4")
    assert pipeline.value("select count(*) from staging.match_profiles") == 1
