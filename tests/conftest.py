"""Stores of the tests' own: a real PostgreSQL 18 and a real S3 server, on free ports in a temporary folder.

The settings point to them before anything reads the settings, so that no test can touch a developer's stores.

- `stores`       the running servers (once per session); makes databases and buckets
- `database`     a fresh database with the schema applied
- `lake`         a fresh bucket
- `run_phase`    runs a script of the project on the fresh database and bucket, as a user does
"""

import os
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import psycopg2
import pytest
from psycopg2.extensions import connection as Connection
from psycopg2.sql import SQL, Identifier

PROJECT = Path(__file__).resolve().parent.parent
HOME = Path(tempfile.gettempdir()) / f"mdm-tests-{os.getpid()}"
TEMPLATE = "mdm_template"


def free_ports(count: int) -> list[int]:
    """Ports of 127.0.0.1 that nothing listens on now."""
    with ExitStack() as stack:
        probes = [stack.enter_context(socket.socket()) for _ in range(count)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [probe.getsockname()[1] for probe in probes]


_ports = free_ports(3)
for _name in [name for name in os.environ if name.startswith(("MDM_", "POSTGRES_", "MINIO_", "PG"))]:
    del os.environ[_name]
os.environ |= {
    "MDM_RUNTIME": "embedded",
    "MDM_HOME": str(HOME),
    "POSTGRES_HOST": "127.0.0.1",
    "POSTGRES_PORT": str(_ports[0]),
    "POSTGRES_USER": "mdm_user",
    "POSTGRES_PASSWORD": secrets.token_hex(12),
    "POSTGRES_DB": TEMPLATE,
    "MINIO_HOST": "127.0.0.1",
    "MINIO_PORT": str(_ports[1]),
    "MINIO_CONSOLE_PORT": str(_ports[2]),
    "MINIO_ROOT_USER": "minioadmin",
    "MINIO_ROOT_PASSWORD": secrets.token_hex(12),
    "MINIO_BUCKET": "mdm-tests",
    "MINIO_SECURE": "false",
    "MDM_SOURCES_FILE": "ingestion/sources.toml",
    "MDM_DEFAULT_REGION": "US",
    "MDM_MERGE_FLAGGED": "false",
    "MDM_QUIET": "false",
}

# Only now may the settings be read.
import db.postgres  # noqa: E402
from db import schema  # noqa: E402
from db.embedded import EmbeddedStores  # noqa: E402
from db.lake import Lake  # noqa: E402
from db.server_settings import GIB  # noqa: E402
from db.settings import settings  # noqa: E402

# A pipeline of the tests puts its own lake in its place.
LAKE_FROM_SETTINGS = Lake.from_settings


@dataclass(frozen=True)
class Database:
    """One database of a test."""

    name: str

    @contextmanager
    def connect(self) -> Iterator[Connection]:
        """A psycopg2 connection, committed at the end of the block."""
        connection = psycopg2.connect(
            host=settings.postgres_host,
            port=settings.postgres_port,
            user=settings.postgres_user,
            password=settings.postgres_password,
            dbname=self.name,
            options="-c timezone=UTC",
        )
        try:
            with connection:
                yield connection
        finally:
            connection.close()

    def query(self, sql: str, parameters: object = None) -> list[tuple]:
        """The rows of a query."""
        with self.connect() as connection, connection.cursor() as cursor:
            cursor.execute(sql, parameters)
            return cursor.fetchall()

    def execute(self, sql: str, parameters: object = None) -> None:
        """Run a statement and commit it."""
        with self.connect() as connection, connection.cursor() as cursor:
            cursor.execute(sql, parameters)


class Stores:
    """The running servers of the session."""

    def new_database(self) -> Database:
        """A fresh database with the schema applied."""
        return self.copy_database(Database(TEMPLATE))

    def copy_database(self, original: Database) -> Database:
        """A database like another one, to which nothing may be connected."""
        name = f"mdm_{secrets.token_hex(6)}"
        self.administer(
            SQL("create database {} template {}").format(Identifier(name), Identifier(original.name))
        )
        return Database(name)

    def drop_database(self, database: Database) -> None:
        """Drop a database, ending its sessions."""
        self.administer(SQL("drop database {} with (force)").format(Identifier(database.name)))

    def new_lake(self) -> Lake:
        """A fresh, empty bucket."""
        return LAKE_FROM_SETTINGS(replace(settings, minio_bucket=f"mdm-{secrets.token_hex(6)}"))

    def environment(self, database: Database | None = None, lake: Lake | None = None) -> dict[str, str]:
        """The environment in which a script works on this database and bucket."""
        given = {**os.environ, "PYTHONPATH": str(PROJECT)}
        if database:
            given["POSTGRES_DB"] = database.name
        if lake:
            given["MINIO_BUCKET"] = lake.bucket
        return given

    def administer(self, statement: SQL) -> None:
        """Run a statement that is not for a transaction, outside the tests' databases."""
        connection = psycopg2.connect(
            host=settings.postgres_host,
            port=settings.postgres_port,
            user=settings.postgres_user,
            password=settings.postgres_password,
            dbname="postgres",
        )
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute(statement)
        connection.close()


@pytest.fixture(scope="session")
def stores() -> Iterator[Stores]:
    """The tests' own servers, stopped and deleted at the end."""
    # Open to the servers' user, where root runs the tests.
    HOME.mkdir(mode=0o755)
    servers = EmbeddedStores(settings, memory=GIB)
    try:
        servers.start()
        with db.postgres.connect() as connection, connection.cursor() as cursor:
            schema.apply(cursor)
        # Databases are made and dropped by the hundred here. What a killed server has written the
        # operating system keeps all the same; only a power cut would lose it.
        stores = Stores()
        for statement in ("alter system set fsync = off", "select pg_reload_conf()"):
            stores.administer(SQL(statement))
        yield stores
    finally:
        servers.remove()
        shutil.rmtree(HOME, ignore_errors=True)


@pytest.fixture
def database(stores: Stores, monkeypatch: pytest.MonkeyPatch) -> Iterator[Database]:
    """A fresh database; `db.postgres.connect` and scripts that are run reach it too."""
    fresh = stores.new_database()
    monkeypatch.setenv("POSTGRES_DB", fresh.name)
    monkeypatch.setattr(db.postgres, "settings", replace(settings, postgres_db=fresh.name))
    yield fresh
    stores.drop_database(fresh)


@pytest.fixture
def lake(stores: Stores, monkeypatch: pytest.MonkeyPatch) -> Lake:
    """A fresh bucket; scripts that are run reach it too."""
    fresh = stores.new_lake()
    monkeypatch.setenv("MINIO_BUCKET", fresh.bucket)
    return fresh


@pytest.fixture
def run_phase(
    stores: Stores, database: Database, lake: Lake
) -> Callable[..., subprocess.CompletedProcess[str]]:
    """`run_phase(script, *arguments, check=True, **environment)` runs a script from the project's root.

    With `check`, a script that does not end 0 fails the test and shows what it said.
    """

    def run(script: str, *arguments: str, check: bool = True, **environment: str):
        ended = subprocess.run(
            [sys.executable, script, *arguments],
            cwd=PROJECT,
            env=stores.environment(database, lake) | environment,
            capture_output=True,
            text=True,
        )
        if check and ended.returncode != 0:
            pytest.fail(f"{script} ended {ended.returncode}\n{ended.stdout}\n{ended.stderr}")
        return ended

    return run


@pytest.fixture
def pipelines(stores: Stores, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable]:
    """`pipelines(sources=None, lake=None, copy_of=None)` makes a Pipeline (tests/pipeline.py) of its own.

    sources: a sources file; without it shop, desk and crm, which know every attribute by its own name.
    """
    with pipeline_maker(stores, tmp_path, monkeypatch) as make:
        yield make


@pytest.fixture
def pipeline(pipelines: Callable, trained_model: tuple):
    """A Pipeline with the three sources shop, desk and crm, and a model trained on the demo's population."""
    made = pipelines()
    made.use_model(trained_model)
    return made


@pytest.fixture(scope="session")
def trained_model(stores: Stores, tmp_path_factory: pytest.TempPathFactory) -> tuple:
    """A model trained on a day of the demo's three systems, for `Pipeline.use_model`."""
    with (
        pytest.MonkeyPatch.context() as monkeypatch,
        pipeline_maker(stores, tmp_path_factory.mktemp("model"), monkeypatch) as make,
    ):
        demo = make(PROJECT / "ingestion" / "sources.toml")
        demo.produce(2000)
        demo.run("2", "5")
        return demo.model()


@contextmanager
def pipeline_maker(stores: Stores, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable]:
    """What the fixture `pipelines` gives; drops what it made."""
    # Only here, as it imports every phase.
    from tests.pipeline import SOURCES, Pipeline

    own_sources = folder / "sources.toml"
    own_sources.write_text(SOURCES)
    made = []

    def make(sources: Path | None = None, lake: Lake | None = None, copy_of=None) -> Pipeline:
        if copy_of:
            sources, lake = sources or copy_of.sources, lake or copy_of.lake
        database = stores.copy_database(copy_of.database) if copy_of else stores.new_database()
        made.append(
            Pipeline(stores, database, lake or stores.new_lake(), sources or own_sources, monkeypatch)
        )
        return made[-1]

    try:
        yield make
    finally:
        for pipeline in made:
            pipeline.close()
