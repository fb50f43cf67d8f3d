"""Kill -9 in the middle of every phase, and of PostgreSQL itself: run again, it ends as if never killed.

The moment of the kill is not left to chance: a lock of the test holds the phase where it moves its mark, or
where it writes its receipt, the last thing before its commit.
"""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import psutil
import psycopg2
import pytest

from db.embedded import EmbeddedStores
from db.server_settings import GIB
from db.settings import PROJECT, settings
from tests.conftest import pipeline_maker
from tests.pipeline import SCRIPTS, Pipeline, check_laws, wait_for

DEMO = PROJECT / "ingestion" / "sources.toml"
RECEIPT = "gold.pipeline_phases"
# Where a phase writes first, or at least before its end.
FIRST_WRITES = dict.fromkeys(SCRIPTS, "identity.ingestion_watermarks") | {
    "gold/run_steward_overrides.py": "gold.customer_steward_overrides"
}


@dataclass
class Stage:
    """A pipeline just before a script of its second day, and what is there after it."""

    before: Pipeline
    after: dict[str, list[str]]


@pytest.fixture(scope="module")
def stages(stores, tmp_path_factory) -> Iterator[dict[str, Stage]]:
    """script -> Stage, of a second day that nobody killed; between the days a steward was at work."""
    with (
        pytest.MonkeyPatch.context() as monkeypatch,
        pipeline_maker(stores, tmp_path_factory.mktemp("kills"), monkeypatch) as make,
    ):
        never_killed = make(DEMO)
        never_killed.produce(150)
        never_killed.run()
        call_a_steward(never_killed)
        never_killed.produce(150)
        made = {}
        for script in SCRIPTS:
            before = make(copy_of=never_killed)
            never_killed.run_script(script)
            made[script] = Stage(before, never_killed.content())
        check_laws(never_killed)
        yield made


def call_a_steward(pipeline: Pipeline) -> None:
    """A merge, a split and an override, so that every phase of the next run has work."""
    largest = pipeline.query(
        "select global_customer_id::text, max(source_system || ':' || record_id) "
        "from identity.customer_identity_map group by 1 order by count(*) desc, 1 limit 4"
    )
    (one, _), (other, _), (parted, leaving), (corrected, _) = largest
    pipeline.value("gold.steward_merge(%s::uuid, %s::uuid, 'eva', 'one person')", one, other)
    pipeline.value("gold.steward_split(%s::uuid, array[%s], 'eva', 'two persons')", parted, leaving)
    pipeline.value("gold.steward_override(%s::uuid, 'city', 'Lund', 'eva', 'she moved')", corrected)


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_phase_killed_in_the_middle_ends_as_if_never_killed(stages, pipelines, script):
    killed = pipelines(copy_of=stages[script].before)
    for table in (FIRST_WRITES[script], RECEIPT):
        with held(killed, script, table) as process:
            process.kill()
            process.wait()
        wait_for(lambda: sessions(killed) == 0)
    killed.run_script(script)
    assert differences(killed.content(), stages[script].after) == {}


@pytest.mark.parametrize("script", ["ingestion/minio_to_raw.py", "identity/run_identity_resolution.py"])
def test_postgresql_killed_in_the_middle_of_a_phase(stages, pipelines, script):
    killed = pipelines(copy_of=stages[script].before)
    # A sequence in a copied database goes back by a crash before the first checkpoint.
    killed.database.execute("checkpoint")
    with held(killed, script, RECEIPT) as process, postgresql_killed():
        said = process.communicate(timeout=60)[1]
    assert process.returncode == 3, said
    assert "Traceback" not in said and said.count("error:") == 1
    killed.run_script(script)
    assert differences(killed.content(), stages[script].after) == {}


def test_postgresql_killed_between_two_phases(stages, pipelines):
    killed = pipelines(copy_of=stages["matching/run_matching_engine.py"].before)
    with postgresql_killed():
        pass
    killed.run("5", "10")
    assert differences(killed.content(), stages[SCRIPTS[-1]].after) == {}
    check_laws(killed)


@contextmanager
def held(pipeline: Pipeline, script: str, table: str) -> Iterator[subprocess.Popen]:
    """The script at work, held where it wants to write to the table; let go at the end of the block."""
    locker = psycopg2.connect(
        host=settings.postgres_host,
        port=settings.postgres_port,
        user=settings.postgres_user,
        password=settings.postgres_password,
        dbname=pipeline.database.name,
    )
    try:
        locker.cursor().execute(f"lock table {table} in share mode")
        process = pipeline.start_script(script)

        def is_held() -> bool:
            assert process.poll() is None, f"{script} ended without writing to {table}"
            return pipeline.value(
                "select count(*) from pg_stat_activity where datname = current_database() "
                "and wait_event_type = 'Lock'"
            )

        wait_for(is_held)
        yield process
    finally:
        locker.close()


def sessions(pipeline: Pipeline) -> int:
    """Sessions on the pipeline's database, but for the one that asks."""
    return pipeline.value(
        "select count(*) from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()"
    )


@contextmanager
def postgresql_killed() -> Iterator[None]:
    """kill -9 of the server, as the machine does it when it runs out of memory; up again after the block."""
    servers = EmbeddedStores(settings, memory=GIB)
    process = servers.postgres.process()
    process.kill()
    try:
        wait_for(lambda: not process.is_running() or process.status() == psutil.STATUS_ZOMBIE)
        yield
    finally:
        servers.start()


def differences(found: dict[str, list[str]], wanted: dict[str, list[str]]) -> dict[str, tuple]:
    """table -> (rows too many, rows missing), where there are any; some of them."""
    return {
        table: (
            [row for row in found[table] if row not in wanted[table]][:3],
            [row for row in wanted[table] if row not in found[table]][:3],
        )
        for table in wanted
        if found[table] != wanted[table]
    }
