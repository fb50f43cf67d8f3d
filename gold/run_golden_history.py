"""Phase 8: the history of the golden records (SCD2).

A golden record that was written gets a new version, and the one before is closed where the new one begins.
A customer who is gone has its last version closed, with the customer it was merged into. The keys of
gold.dim_customers_history make the versions of a customer one chain without overlaps.

Usage: python gold/run_golden_history.py
"""

import argparse
from pathlib import Path

from db.errors import run_script
from db.phase import Phase, phase
from db.postgres import bulk_load, run_file

HERE = Path(__file__).resolve().parent
HISTORY = "gold.dim_customers_history"
GOLDEN, IDENTITY = "gold.dim_customers", "identity.customers"


def write_history(work: Phase, golden_mark: int, identity_mark: int) -> int:
    """Bring the versions of the customers whose golden records were written or left since the marks up to date;
    returns how many were opened.

    A version whose valid_from is the golden record's updated_at holds already, so doing it again changes
    nothing.
    """
    # A small sample is enough: versions are looked up by their keys.
    work.cursor.execute("set local default_statistics_target = 10")
    with bulk_load(work.cursor, HISTORY, with_keys=True):
        marks = {"golden_mark": golden_mark, "identity_mark": identity_mark}
        opened = run_file(work.cursor, HERE / "write_history.sql", {"run_id": work.run_id} | marks)
    work.refresh_statistics(HISTORY)
    return opened


def main(argv: list[str] | None = None) -> int:
    """Run phase 8 on what changed."""
    argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    ).parse_args(argv)
    with phase("8", "run_golden_history") as work:
        marks = {"golden_mark": work.mark(GOLDEN), "identity_mark": work.mark(IDENTITY)}
        run_file(work.cursor, HERE / "written_golden_records.sql", marks)
        (work.rows_in,) = work.cursor.fetchone()
        if work.rows_in:
            work.rows_out = write_history(work, **marks)
        else:
            work.skip("no golden record changed")
        work.advance(GOLDEN)
        # A customer who has gone leaves dim_customers in phase 7: what that has not seen yet has to come again.
        work.advance(IDENTITY, run_id=work.mark(IDENTITY, "run_golden_customers"))
    return 0


if __name__ == "__main__":
    run_script(main)
