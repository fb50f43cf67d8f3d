"""Stores of a benchmark's own: a folder, free ports, a fresh database and an empty lake, gone at the end."""

import os
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import psutil
import psycopg2
from measured_steps import ProcessTree, Step, measure

from db.lake import Lake
from db.settings import load

PROJECT = Path(__file__).resolve().parents[2]
PIPELINE = str(PROJECT / "run_mdm_pipeline.sh")
STATEMENTS = 8  # listed per phase
OWN = ("MDM_", "POSTGRES_", "MINIO_", "PG")


class Workspace:
    """One benchmark's stores, as `./run_mdm_pipeline.sh up` starts them."""

    def __init__(self, home: Path, sources: Path | None = None):
        self.home = home
        with ExitStack() as stack:
            probes = [stack.enter_context(socket.socket()) for _ in range(3)]
            for probe in probes:
                probe.bind(("127.0.0.1", 0))
            ports = [str(probe.getsockname()[1]) for probe in probes]
        self.environment = {name: value for name, value in os.environ.items() if not name.startswith(OWN)}
        self.environment |= {
            "MDM_RUNTIME": "embedded",
            "MDM_HOME": str(home),
            "POSTGRES_HOST": "127.0.0.1",
            "POSTGRES_PORT": ports[0],
            "POSTGRES_USER": "mdm_user",
            "POSTGRES_PASSWORD": secrets.token_hex(12),
            "POSTGRES_DB": "mdm_db",
            "MINIO_HOST": "127.0.0.1",
            "MINIO_PORT": ports[1],
            "MINIO_CONSOLE_PORT": ports[2],
            "MINIO_ROOT_USER": "minioadmin",
            "MINIO_ROOT_PASSWORD": secrets.token_hex(12),
            "MINIO_BUCKET": "mdm-ingestion",
            "MINIO_SECURE": "false",
            "MDM_SOURCES_FILE": str(sources or PROJECT / "ingestion/sources.toml"),
            "MDM_DEFAULT_REGION": "US",
            "MDM_MERGE_FLAGGED": "false",
            "MDM_QUIET": "false",
        }
        self.counts_statements = False
        self.times_imports = False

    def command(self, *arguments: str) -> None:
        """A command of ./run_mdm_pipeline.sh, its output left out. Raises RuntimeError when it fails."""
        self._call(PIPELINE, *arguments)

    def produce(self, *arguments: str) -> str:
        """Let the producers fill the lake; returns what they report."""
        return self._call(sys.executable, str(PROJECT / "producers/run_producers.py"), *arguments)

    def _call(self, *command: str) -> str:
        ended = subprocess.run(command, cwd=PROJECT, env=self.environment, capture_output=True, text=True)
        if ended.returncode != 0:
            raise RuntimeError(f"{' '.join(command)} ended {ended.returncode}:\n{ended.stdout}{ended.stderr}")
        return ended.stdout

    @contextmanager
    def connect(self) -> Iterator[psycopg2.extensions.connection]:
        """A connection that commits each statement."""
        given = load(self.environment)
        connection = psycopg2.connect(
            host=given.postgres_host,
            port=given.postgres_port,
            user=given.postgres_user,
            password=given.postgres_password,
            dbname=given.postgres_db,
        )
        connection.autocommit = True
        try:
            yield connection
        finally:
            connection.close()

    def query(self, sql: str, parameters: object = None) -> list[tuple]:
        """The rows of a query."""
        with self.connect() as connection, connection.cursor() as cursor:
            cursor.execute(sql, parameters)
            return cursor.fetchall()

    def execute(self, sql: str) -> None:
        """Run a statement."""
        with self.connect() as connection, connection.cursor() as cursor:
            cursor.execute(sql)

    def export(self, query: str, path: Path) -> Path:
        """The rows of a query as a CSV file with a header."""
        with self.connect() as connection, connection.cursor() as cursor, path.open("wb") as file:
            cursor.copy_expert(f"copy ({query}) to stdout (format csv, header)", file)
        return path

    def lake(self) -> Lake:
        """The lake."""
        return Lake.from_settings(load(self.environment))

    def run(self, *arguments: str) -> list[Step]:
        """Phases 2 to 10 over what is in the lake, measured: `start`, a step per phase, `end`.

        `start` is the check of set-up, stores and schema; `end` the run's closing and its summary, whose
        processor time is counted at phase 10.
        """
        environment = dict(self.environment)
        if self.times_imports:
            environment["PYTHONPROFILEIMPORTTIME"] = "1"
        with self.connect() as connection:
            cursor = connection.cursor()

            def value(sql: str):
                cursor.execute(sql)
                return cursor.fetchone()[0]

            def count_statements(step: Step) -> None:
                if self.counts_statements:
                    step.statements = _top_statements(cursor)

            server = ProcessTree(psutil.Process(value("select pg_backend_pid()")).ppid())
            if self.counts_statements:
                cursor.execute("select pg_stat_statements_reset()")
            steps = measure(
                [PIPELINE, "--no-producers", *arguments],
                self.home / "run.log",
                server=server,
                wal_position=lambda: int(value("select pg_current_wal_insert_lsn() - '0/0'")),
                after_step=count_statements,
                cwd=PROJECT,
                env=environment,
            )
            cursor.execute(
                "select extract(epoch from clock_timestamp() - max(finished_at))::float "
                "from gold.pipeline_phases where run_id = (select max(run_id) from gold.pipeline_runs)"
            )
            (seconds_since,) = cursor.fetchone()
            cursor.execute(
                "select phase, sum(rows_in)::bigint, sum(rows_out)::bigint from gold.pipeline_phases "
                "where run_id = (select max(run_id) from gold.pipeline_runs) group by phase"
            )
            receipts = {phase: rows for phase, *rows in cursor}
        steps[0].title = "Check set-up, stores and schema"
        end = Step("end", "Close the run, print its summary", seconds=min(seconds_since, steps[-1].seconds))
        steps[-1].seconds -= end.seconds
        for step in steps:
            step.rows_in, step.rows_out = receipts.get(step.name, (0, 0))
        return [*steps, end]

    def count_statements(self) -> None:
        """From the next start on, PostgreSQL counts its statements."""
        self.execute("alter system set shared_preload_libraries = pg_stat_statements")
        self.command("down")
        self.command("up")
        self.execute("create extension pg_stat_statements")
        self.execute("alter system set pg_stat_statements.track = 'all'")
        self.execute("select pg_reload_conf()")
        self.counts_statements = True


def _top_statements(cursor) -> list[dict]:
    """The statements that took longest since the last call."""
    cursor.execute(
        "select calls, rows, toplevel, "
        "total_exec_time / 1000 as seconds, wal_bytes::bigint, temp_blks_written * 8192 as temporary_bytes, "
        "regexp_replace(query, '\\s+', ' ', 'g') as query "
        "from pg_stat_statements order by total_exec_time desc limit %s",
        (STATEMENTS,),
    )
    names = [column.name for column in cursor.description]
    found = [dict(zip(names, row, strict=True)) for row in cursor]
    cursor.execute("select pg_stat_statements_reset()")
    return found


@contextmanager
def workspace(
    *, sources: Path | None = None, counts_statements=False, times_imports=False
) -> Iterator[Workspace]:
    """A workspace with its stores running and the schema made; all of it is deleted at the end."""
    home = Path(tempfile.mkdtemp(prefix="mdm-benchmark-"))
    # The servers' user enters it, where root runs the benchmark.
    home.chmod(0o755)
    made = Workspace(home, sources)
    try:
        made.command("up")
        if counts_statements:
            made.count_statements()
        made.times_imports = times_imports
        yield made
    finally:
        made.command("reset", "--yes")
        shutil.rmtree(home, ignore_errors=True)
