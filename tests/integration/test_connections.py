"""The connection that the processes of a run use one after another."""

import os
import signal
import subprocess
import sys
from dataclasses import replace

import psycopg2
import pytest
from psycopg2.sql import SQL

from db import postgres, runtime, schema
from db.errors import ConfigurationError, MdmError
from db.postgres import connect, drop_connections, keep_connections, kept_connections, take_over
from db.run_phases import Fork
from db.settings import PROJECT

PROCESS = "select pg_backend_pid()"


@pytest.fixture
def kept(database):
    """A connection is kept; its process."""
    keep_connections(1)
    yield process()
    drop_connections()


def process() -> int:
    """The process at the other end of the next connection."""
    with connect() as connection, connection.cursor() as cursor:
        cursor.execute(PROCESS)
        return cursor.fetchone()[0]


def script(tmp_path, text: str) -> Fork:
    """A process that runs a script with a cursor of `connect`."""
    path = tmp_path / "script.py"
    path.write_text(
        "import os, signal\nfrom db.postgres import connect\n"
        f"with connect() as connection, connection.cursor() as cursor:\n    {text}\n"
    )
    return Fork(str(path))


def test_a_statement_that_is_ended_is_no_server_that_does_not_answer(database):
    with (
        pytest.raises(MdmError, match="ended a statement: canceling statement") as caught,
        connect() as connection,
    ):
        connection.cursor().execute("set statement_timeout = 1; select pg_sleep(5)")
    assert type(caught.value) is MdmError


def test_a_full_disk_is_no_server_that_does_not_answer(database, monkeypatch):
    says = "connection to server failed: FATAL:  could not write init file: No space left on device"

    def full() -> None:
        raise psycopg2.OperationalError(says)

    monkeypatch.setattr(postgres, "opened", full)
    with pytest.raises(MdmError, match="ran out of room") as caught, connect():
        pass
    assert type(caught.value) is MdmError


@pytest.mark.parametrize("encoding", ["LATIN1", "SQL_ASCII"])
def test_a_database_in_another_encoding_is_not_taken(stores, database, monkeypatch, encoding):
    stores.drop_database(database)
    how = f"template template0 encoding '{encoding}' locale_provider libc locale 'C'"
    stores.administer(SQL(f"create database {database.name} {how}"))
    with pytest.raises(ConfigurationError, match=f"is in {encoding}.*encoding UTF8"):
        runtime._postgres_state(postgres.settings)


@pytest.mark.parametrize("denied", ["database", "schema gold"])
def test_a_role_without_rights_is_told_what_it_needs(stores, database, monkeypatch, denied):
    if denied == "database":
        database.execute("drop schema raw, staging, identity, gold cascade")
    database.execute("create role weak login password 'weak'")
    try:
        weak = replace(postgres.settings, postgres_user="weak", postgres_password="weak")
        monkeypatch.setattr(postgres, "settings", weak)
        says = f"denied for {denied}.*grant create on database {database.name} to weak"
        with pytest.raises(ConfigurationError, match=says), connect() as connection:
            schema.apply(connection.cursor())
    finally:
        database.execute("drop role weak")


def test_one_after_another_has_it_as_if_it_were_new(kept):
    with connect() as connection, connection.cursor() as cursor:
        cursor.execute("create temp table left_behind (number integer)")
        cursor.execute("set work_mem = '1MB'")
    with connect() as connection, connection.cursor() as cursor:
        cursor.execute("select pg_backend_pid(), to_regclass('left_behind'), current_setting('timezone')")
        assert cursor.fetchone() == (kept, None, "UTC")
        cursor.execute("show work_mem")
        assert cursor.fetchone() != ("1MB",)
        assert not connection.autocommit


def test_two_at_once_have_two(kept):
    with connect():
        assert process() != kept
    assert process() == kept
    keep_connections(1)
    with connect() as connection, connection.cursor() as cursor:
        cursor.execute(PROCESS)
        both = {cursor.fetchone()[0], process()}
    assert len(both) == 2
    assert kept in both
    assert process() in both


def test_after_an_error_it_is_there_with_nothing_done(kept, database):
    with pytest.raises(psycopg2.errors.DivisionByZero), connect() as connection:
        connection.cursor().execute("create table public.half_done (number integer)")
        connection.cursor().execute("select 1 / 0")
    assert process() == kept
    assert database.query("select to_regclass('public.half_done')") == [(None,)]


def test_a_broken_one_is_replaced(kept, database):
    database.query("select pg_terminate_backend(%s)", (kept,))
    assert process() != kept


def test_forks_have_it_in_turn(kept, tmp_path):
    ask = f"cursor.execute({PROCESS!r}); assert (cursor.fetchone() == ({kept},)) is %s"
    for alone in (True, False, True):
        fork = script(tmp_path, ask % alone)
        fork.begin(0, alone=alone)
        assert fork.end() == 0
    assert process() == kept


def test_what_a_killed_fork_was_doing_is_undone(kept, tmp_path, database):
    fork = script(
        tmp_path,
        "cursor.execute('create table public.half_done (number integer)')\n"
        "    os.kill(os.getpid(), signal.SIGKILL)",
    )
    fork.begin(0)
    assert fork.end() == 128 + signal.SIGKILL
    drop_connections()
    assert process() != kept
    # Waits for the lock of the table's name, if it is held still.
    database.execute("create table public.half_done (number integer)")


@pytest.mark.parametrize("takes_over", [True, False])
def test_another_fork_has_it_only_if_it_takes_it_over(kept, takes_over):
    connections = kept_connections()
    if (child := os.fork()) == 0:
        if takes_over:
            take_over(connections)
        os._exit(int(process() == kept))
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == takes_over
    assert process() == kept


def test_an_encrypted_one_is_not_kept(database, monkeypatch):
    connection = postgres.opened()
    connection.cursor().execute(
        "create temp view pg_stat_ssl as select pg_backend_pid() as pid, true as ssl; "
        "set search_path = pg_temp, pg_catalog"
    )
    monkeypatch.setattr(postgres, "opened", lambda: connection)
    keep_connections(2)
    assert connection.closed
    assert not kept_connections()


def shown() -> tuple:
    """How the next connection reads and writes text, times and names."""
    with connect() as connection, connection.cursor() as cursor:
        cursor.execute(
            "select current_setting('client_encoding'), current_setting('datestyle'), current_setting('search_path'), "
            "current_setting('standard_conforming_strings'), current_setting('default_transaction_read_only'), "
            "current_setting('statement_timeout')"
        )
        return cursor.fetchone()


def test_what_the_database_has_set_otherwise_is_not_followed(database):
    before = shown()
    for setting in (
        "client_encoding = 'latin1'",
        "datestyle = 'German'",
        "search_path = 'gold'",
        "standard_conforming_strings = off",
        "statement_timeout = '1s'",
        "default_transaction_read_only = on",
    ):
        database.execute(f"alter database {database.name} set {setting}")
    assert shown() == before
    keep_connections(1)
    shown()
    assert shown() == before
    drop_connections()


def test_variables_of_libpq_are_not_followed(database, lake, stores):
    environment = stores.environment(database, lake) | {
        "PGCLIENTENCODING": "LATIN1",
        "PGDATESTYLE": "German",
        "PGSERVICE": "other",
        "PGOPTIONS": "-c search_path=gold",
        "PGHOSTADDR": "127.0.0.9",
    }
    asked = (
        "from db.postgres import connect\n"
        "with connect() as connection, connection.cursor() as cursor:\n"
        "    cursor.execute(\"select current_setting('client_encoding'), current_setting('datestyle')\")\n"
        "    print(*cursor.fetchone())\n"
    )
    said = subprocess.run(
        [sys.executable, "-c", asked],
        cwd=PROJECT,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert said.stdout == "UTF8 ISO, MDY\n"
