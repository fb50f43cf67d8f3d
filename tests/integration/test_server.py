"""The embedded PostgreSQL: one that recovers, or is being stopped, is waited for."""

import os
import signal
import threading
from contextlib import suppress

import psutil
import pytest

from db.embedded import EmbeddedStores, Server
from db.errors import MissingError
from db.postgres import connect
from db.server_settings import GIB
from db.settings import settings
from tests.pipeline import wait_for


@pytest.fixture
def servers(stores) -> EmbeddedStores:
    """The servers of the tests, as one who starts a run sees them."""
    return EmbeddedStores(settings, memory=GIB)


def checkpointer(server: Server) -> psutil.Process:
    """The process that PostgreSQL needs to recover, and to end well."""
    (found,) = (child for child in server.process().children() if "checkpointer" in " ".join(child.cmdline()))
    return found


def state(server: Server) -> str:
    return server.pid_file.read_text().split()[-1]


def test_one_that_recovers_is_waited_for(servers, database):
    database.execute("create table public.kept as select 7 as n")
    process = checkpointer(servers.postgres)
    process.kill()
    wait_for(lambda: not process.is_running() or process.status() == psutil.STATUS_ZOMBIE)
    servers.start()
    assert database.query("select n from public.kept") == [(7,)]


class Killer:
    """A file that rows are copied to; kills the process that sends them."""

    def __init__(self, pid: int):
        self.pid = pid

    def write(self, _: bytes) -> None:
        with suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)


def test_one_that_is_killed_while_it_copies_rows_out_does_not_answer(servers, database):
    try:
        with pytest.raises(MissingError), connect() as connection, connection.cursor() as cursor:
            rows = "copy (select generate_series(1, 10000000)) to stdout"
            cursor.copy_expert(rows, Killer(connection.info.backend_pid))
    finally:
        servers.start()


def test_what_is_asked_of_a_connection_that_broke_does_not_answer(database):
    with pytest.raises(MissingError), connect() as connection:
        connection.close()
        connection.cursor()


def test_one_that_is_being_stopped_is_started_again(servers, database):
    process = checkpointer(servers.postgres)
    # It cannot go before this one has written all.
    process.suspend()
    servers.postgres.process().send_signal(signal.SIGINT)
    wait_for(lambda: state(servers.postgres) == "stopping")
    threading.Timer(0.3, process.resume).start()
    servers.start()
    assert state(servers.postgres) == "ready"
    assert database.query("select 1") == [(1,)]
