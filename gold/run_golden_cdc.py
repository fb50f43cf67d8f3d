"""Phase 9A: change events of the golden records, the outbox for downstream systems.

An event is written where the golden record is not what the last event about the customer said, so events
replayed from the first always end in dim_customers, and doing it again writes nothing. Numbers are given
under a lock, from the last one on: no gaps, and none becomes visible before a smaller one.

Usage: python gold/run_golden_cdc.py
"""

import argparse
from pathlib import Path

from db.errors import run_script
from db.phase import Phase, phase
from db.postgres import bulk_load, run_file

HERE = Path(__file__).resolve().parent
EVENTS = "gold.customer_changes"
UPSTREAM, LINEAGE = "gold.dim_customers_history", "identity.customer_id_lineage"


def write_events(work: Phase, mark: int, split_mark: int) -> tuple[int, int]:
    """Write the events of the customers with a version opened or closed since the mark; returns how many have one,
    and how many events there are.

    A customer that appears and was split off in a run after `split_mark` gets a SPLIT, else an INSERT.
    """
    # A small sample is enough: events are looked up by their keys.
    work.cursor.execute("set local default_statistics_target = 10")
    changed = run_file(work.cursor, HERE / "changed_versions.sql", {"mark": mark})
    if not changed:
        return 0, 0
    work.cursor.execute("analyze changed_versions")
    work.cursor.execute("select gold.lock_last_event_seq()")
    (last_event_seq,) = work.cursor.fetchone()
    with bulk_load(work.cursor, EVENTS, with_keys=True):
        written = run_file(
            work.cursor,
            HERE / "write_events.sql",
            {"run_id": work.run_id, "last_event_seq": last_event_seq, "split_mark": split_mark},
        )
    work.refresh_statistics(EVENTS)
    return changed, written


def main(argv: list[str] | None = None) -> int:
    """Run phase 9A on what changed."""
    argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    ).parse_args(argv)
    with phase("9A", "run_golden_cdc") as work:
        mark = work.mark(UPSTREAM)
        work.rows_in, work.rows_out = write_events(work, mark, split_mark=work.mark(LINEAGE) or mark)
        if not work.rows_in:
            work.skip("no version opened or closed")
        # A version carries the run of its golden record: those that phase 8 has not written yet are to come.
        work.advance(UPSTREAM, run_id=work.mark("gold.dim_customers", "run_golden_history"))
        # Nor do customers that were split off, until phase 7 and then phase 8 have seen them.
        work.advance(LINEAGE, run_id=work.mark("identity.customers", "run_golden_history"))
    return 0


if __name__ == "__main__":
    run_script(main)
