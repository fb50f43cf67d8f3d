"""Phase 10: metrics of matching and of the data, and what left its usual range.

Takes the cleaned records, customers and compared pairs of runs after its marks. Metrics over all there is
come from running totals, so the cost follows what changed. What stewards say changes their queue at once, so it is
a change too. A run that changed nothing writes nothing.

Usage: python gold/run_quality_metrics.py
"""

import argparse
from pathlib import Path

from psycopg2.sql import SQL, Composed, Identifier, Literal

from db.errors import run_script
from db.phase import Phase, phase
from db.postgres import run_file

HERE = Path(__file__).resolve().parent

# Drift: the runs looked back on, the least of them to say anything, and the least records behind a share.
WINDOW, MIN_RUNS, MIN_BASIS = 20, 5, 100
# Attributes that are to identify one person; for the others a repeated value means nothing.
IDENTIFIERS = ("email", "phone", "national_id")
# Under this name phase 10 keeps what stewards had said when it last counted.
STEWARDS = "gold.steward_review_queue"
NOTHING_COUNTED = "select '' as source_system, '' as attribute, 0::bigint as value_count where false"


def main(argv: list[str] | None = None) -> int:
    """Run the phase."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.parse_args(argv)
    with phase("10", "run_quality_metrics") as work:
        measure(work)
    return 0


def measure(work: Phase) -> None:
    """Bring the totals up to date and write the metrics of this run.

    A phase run a second time in the same run finds its marks moved and keeps what the first wrote.
    """
    marks = {
        upstream: work.mark(upstream)
        for upstream in (
            "raw.ingested_objects",
            "identity.customers",
            "staging.identity_match_candidates",
            "gold.customer_attribute_conflicts",
        )
    }
    changed = [upstream for upstream, mark in marks.items() if work.has_newer(upstream, mark)]
    run_file(work.cursor, HERE / "steward_acts.sql")
    (acts,) = work.cursor.fetchone()
    if acts != work.configuration(STEWARDS):
        changed.append(STEWARDS)
    # What is counted comes to a few rows: let a query take both cores for it.
    work.cursor.execute("set local parallel_setup_cost = 100; set local parallel_tuple_cost = 0.01")
    count_records(work)
    if not changed and not work.rows_in:
        work.skip("nothing changed since the last metrics")
        return
    work.rows_in += count_customers(work, marks["identity.customers"])
    work.cursor.execute("delete from gold.data_quality_metrics where run_id = %s", (work.run_id,))
    work.rows_out += run_file(work.cursor, HERE / "data_quality_metrics.sql", {"run_id": work.run_id})
    work.cursor.execute("delete from gold.run_metrics where run_id = %s", (work.run_id,))
    work.rows_out += run_file(
        work.cursor,
        HERE / "run_metrics.sql",
        {
            "run_id": work.run_id,
            "objects_mark": marks["raw.ingested_objects"],
            "pairs_mark": marks["staging.identity_match_candidates"],
        },
    )
    work.cursor.execute("delete from gold.metric_warnings where run_id = %s", (work.run_id,))
    warnings = run_file(
        work.cursor,
        HERE / "metric_warnings.sql",
        {"run_id": work.run_id, "window": WINDOW, "min_runs": MIN_RUNS, "min_basis": MIN_BASIS},
    )
    work.detail["warnings"] = warnings
    for upstream in marks:
        work.advance(upstream)
    work.advance(STEWARDS, acts)


def count_records(work: Phase) -> None:
    """Add the changed cleaned records to gold.record_quality_totals; former versions are off it already.

    Leaves two temporary tables: record_quality (the same counts of the changed records alone) and
    distinct_values (source_system, attribute, value_count).
    """
    work.cursor.execute(
        "select source_system, staging_table, array(select unnest(%s) intersect select jsonb_object_keys(attributes) "
        "order by 1) from raw.sources order by source_system",
        (list(IDENTIFIERS),),
    )
    changed = []
    for source_system, staging_table, identifiers in work.cursor.fetchall():
        upstream = f"staging.{staging_table}"
        mark = work.mark(upstream)
        if _exists(work, upstream) and work.has_newer(upstream, mark):
            changed.append((source_system, staging_table, mark, identifiers))
            work.advance(upstream)
            _uncount_replaced(work, staging_table)
    if not changed:
        work.cursor.execute(
            "create temp table record_quality (like gold.record_quality_totals) on commit drop; "
            f"create temp table distinct_values on commit drop as {NOTHING_COUNTED}"
        )
        return
    # Each source, and below each attribute, by one process, two at a time: what processes would pass one another
    # are all the rows.
    work.cursor.execute("set local min_parallel_table_scan_size = '1TB'")
    statement = SQL((HERE / "record_quality.sql").read_text(encoding="utf-8"))
    work.cursor.execute(statement.format(days=SQL("union all\n").join(map(_changed_days, changed))))
    work.cursor.execute("select coalesce(sum(record_count), 0) from record_quality")
    work.rows_in = int(work.cursor.fetchone()[0])
    counts = [
        SQL(
            "select {0} as source_system, {1} as attribute, count(*) as value_count from ({2}) as found"
        ).format(Literal(source[0]), Literal(attribute), _distinct_values(source, attribute))
        for source in changed
        for attribute in source[3]
    ]
    work.cursor.execute(
        SQL("create temp table distinct_values on commit drop as {}").format(
            SQL("\nunion all\n").join(counts or [SQL(NOTHING_COUNTED)])
        )
    )
    work.cursor.execute("reset min_parallel_table_scan_size")


def _changed_days(source: tuple[str, str, int, list[str]]) -> Composed:
    source_system, staging_table, mark, _ = source
    return SQL((HERE / "changed_days.sql").read_text(encoding="utf-8")).format(
        source_system=Literal(source_system), staging_table=Identifier(staging_table), mark=Literal(mark)
    )


def _distinct_values(source: tuple[str, str, int, list[str]], attribute: str) -> Composed:
    _, staging_table, mark, _ = source
    return SQL("select {0} from staging.{1} where run_id > {2} and {0} is not null group by {0}").format(
        Identifier(attribute), Identifier(staging_table), Literal(mark)
    )


def _uncount_replaced(work: Phase, staging_table: str) -> None:
    """Have versions that are replaced or removed from now on taken off the totals."""
    for event in ("update", "delete"):
        name = f"uncount_{event}d"
        work.cursor.execute(
            "select 1 from pg_trigger where tgname = %s and tgrelid = to_regclass(%s)",
            (name, f"staging.{staging_table}"),
        )
        if work.cursor.fetchone() is None:
            work.cursor.execute(
                SQL(
                    "create trigger {} after {} on staging.{} referencing old table as replaced "
                    "for each statement execute function gold.uncount_replaced_records()"
                ).format(Identifier(name), SQL(event), Identifier(staging_table))
            )


def _exists(work: Phase, table: str) -> bool:
    work.cursor.execute("select to_regclass(%s) is not null", (table,))
    return work.cursor.fetchone()[0]


def count_customers(work: Phase, mark: int) -> int:
    """Add the changed customers to the totals of what customers are made of; returns how many."""
    run_file(work.cursor, HERE / "customer_compositions.sql", {"mark": mark})
    return work.cursor.fetchone()[0]


if __name__ == "__main__":
    run_script(main)
