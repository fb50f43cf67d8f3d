"""The embedded PostgreSQL: one that recovers, or is being stopped, is waited for."""

import signal
import threading

import psutil
import pytest

from db.embedded import EmbeddedStores, Server
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
