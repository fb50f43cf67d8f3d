"""Phase 10: where the sources contradict each other about a customer in a way that matters.

Takes the customers changed since its mark, and those whose overrides came or went since. The kinds of conflict
stand in attribute_conflicts.sql.

Usage: python gold/run_conflict_detection.py
"""

import argparse
from pathlib import Path

from db.errors import run_script
from db.phase import Phase, phase
from db.postgres import run_file

HERE = Path(__file__).resolve().parent
IDENTITY, OVERRIDES = "identity.customers", "gold.customer_steward_overrides"


def main(argv: list[str] | None = None) -> int:
    """Run the phase."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.parse_args(argv)
    with phase("10", "run_conflict_detection") as work:
        detect(work)
    return 0


def detect(work: Phase) -> None:
    """Bring gold.customer_attribute_conflicts up to date for the changed customers."""
    marks = {"identity_mark": work.mark(IDENTITY), "overrides_mark": work.mark(OVERRIDES)}
    work.advance(OVERRIDES)
    # Values of customers come with phase 7: those it has not seen yet have to come again.
    work.advance(IDENTITY, run_id=work.mark(IDENTITY, "run_golden_customers"))
    work.cursor.execute(
        "select exists (select from gold.customer_steward_overrides "
        "where applied_run_id > %(overrides_mark)s or retired_run_id > %(overrides_mark)s)",
        marks,
    )
    if not work.cursor.fetchone()[0] and not work.has_newer(IDENTITY, marks["identity_mark"]):
        work.skip("no changed customers and no changed overrides")
        return
    if not marks["identity_mark"]:
        # The first time all values are read, with both cores; later those of the changed customers, by key.
        work.cursor.execute("set local parallel_setup_cost = 100; set local parallel_tuple_cost = 0.01")
    work.rows_out = run_file(work.cursor, HERE / "attribute_conflicts.sql", {"run_id": work.run_id} | marks)
    work.cursor.execute("select count(*) from gold.working_customers")
    (work.rows_in,) = work.cursor.fetchone()
    work.cursor.execute("drop table gold.working_customers")


if __name__ == "__main__":
    run_script(main)
