"""Ten days of the producers' data, a run in which nothing changed, and a steward's day of fifty decisions.

After every run the laws are counted (broken_laws.sql); a broken one ends the benchmark. A table is known by the
content, place and writing transaction of its rows, so a row written anew as it was is seen too.
"""

import time
from collections import Counter
from collections.abc import Callable

import tables
from workspace import PROJECT, Workspace

HERE = PROJECT / "tests" / "benchmarks"
DAYS = 10
RECORDS_PER_SOURCE = 26_000  # and day: about 100,000 customers in the end
RECEIPTS = ("gold.pipeline_runs", "gold.pipeline_phases", "identity.ingestion_watermarks")


def ten_days(made: Workspace, progress: Callable[[str], None]) -> list[dict]:
    """Deliver and run day after day; a row per day. Raises RuntimeError when a law is broken."""
    days = []
    for day in range(1, DAYS + 1):
        made.produce("--records", str(RECORDS_PER_SOURCE))
        steps = made.run()
        check_laws(made)
        ((customers, events),) = made.query(
            "select (select count(*) from gold.dim_customers), (select max(event_seq) from gold.customer_change_events)"
        )
        cpu = sum(step.client_cpu_seconds + step.server_cpu_seconds for step in steps)
        days.append({"day": day, "cpu_seconds": cpu, "customers": customers, "events": events})
        progress(f"day {day}: {cpu:.1f} s of processors, {customers:,} customers, {events:,} events replayed")
    progress(tables.phases_table(steps, None))
    return days


def check_laws(made: Workspace) -> None:
    """Raises RuntimeError with each law that the database breaks."""
    broken = [
        f"{law} ({rows:,} rows)" for law, rows in made.query((HERE / "broken_laws.sql").read_text()) if rows
    ]
    if broken:
        raise RuntimeError("laws are broken: " + "; ".join(broken))


def tables_written(made: Workspace, run: Callable[[], object]) -> list[str]:
    """The tables to which `run` wrote; receipts are none."""
    before = _fingerprints(made)
    run()
    after = _fingerprints(made)
    return [table for table in after if before.get(table) != after[table]]


def _fingerprints(made: Workspace) -> dict[str, tuple]:
    tables = made.query(
        "select schemaname || '.' || tablename from pg_tables "
        "where schemaname in ('raw', 'staging', 'identity', 'gold') order by 1"
    )
    return {
        table: made.query(
            f"select count(*), sum(hashtextextended(concat_ws(' ', t.ctid, t.xmin, t), 0)) from {table} as t"
        )[0]
        for (table,) in tables
        if table not in RECEIPTS
    }


def merge_the_evening_before(made: Workspace) -> None:
    """Four merges and the run that applies them, for the steward to withdraw some."""
    pairs = made.query(
        "select customers.global_customer_id, lead(customers.global_customer_id) over (order by 1) "
        "from (select global_customer_id from gold.dim_customers order by 1 desc limit 8) as customers"
    )
    for one, other in pairs[::2]:
        made.query("select gold.steward_merge(%s, %s, 'eva', 'seem to be one')", (one, other))
    made.run("--from", "6")
    check_laws(made)


def decide(made: Workspace) -> tuple[Counter, float]:
    """Make the calls of steward_calls.sql; returns the number of each kind and the seconds they took."""
    calls = made.query((HERE / "steward_calls.sql").read_text())
    with made.connect() as connection, connection.cursor() as cursor:
        started = time.perf_counter()
        for _, call in calls:
            cursor.execute(call)
        return Counter(kind for kind, _ in calls), time.perf_counter() - started


def review_queue(made: Workspace) -> tuple[dict[str, int], float]:
    """Items of the review queue by kind, and the seconds to read all of it."""
    started = time.perf_counter()
    kinds = Counter(
        kind for (kind, *_) in made.query("select kind, queue.* from gold.steward_review_queue as queue")
    )
    return dict(kinds), time.perf_counter() - started
