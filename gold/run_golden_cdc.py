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
UPSTREAM = "gold.dim_customers_history"


def write_events(work: Phase, split_mark: int) -> int:
    """Write the events of the customers in gold.working_customers; returns how many.

    A customer that appears and was split off in a run after `split_mark` gets a SPLIT, else an INSERT.
    """
    work.cursor.execute("select gold.lock_last_event_seq()")
    (last_event_seq,) = work.cursor.fetchone()
    # A small sample is enough: events are looked up by their keys.
    work.cursor.execute("set local default_statistics_target = 10")
    with bulk_load(work.cursor, EVENTS, with_keys=True):
        written = run_file(
            work.cursor,
            HERE / "write_events.sql",
            {"run_id": work.run_id, "last_event_seq": last_event_seq, "split_mark": split_mark},
        )
    work.refresh_statistics(EVENTS)
    return written


def main(argv: list[str] | None = None) -> int:
    """Run phase 9A on what changed."""
    argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    ).parse_args(argv)
    with phase("9A", "run_golden_cdc") as work:
        mark = work.mark(UPSTREAM)
        work.rows_in = run_file(work.cursor, HERE / "changed_versions.sql", {"mark": mark})
        if work.rows_in:
            work.cursor.execute("analyze gold.working_customers")
            work.rows_out = write_events(work, split_mark=mark)
        else:
            work.skip("no version opened or closed")
        work.advance(UPSTREAM)
        work.cursor.execute("drop table gold.working_customers")
    return 0


if __name__ == "__main__":
    run_script(main)
