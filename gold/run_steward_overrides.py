"""Phase 9B: overrides of stewards come into force and go out again.

Overrides that are new, withdrawn or expired since the last run change which ones stand; the customers they
count for get their golden record, version and event in this very run, by the SQL of phases 7, 8 and 9A.
Phase 7 follows standing overrides by itself, so values do not flip between the phases of a run.

Usage: python gold/run_steward_overrides.py
"""

import argparse
from pathlib import Path

from db.errors import run_script
from db.phase import phase
from db.postgres import run_file
from gold.run_golden_cdc import LINEAGE, write_events
from gold.run_golden_customers import make_golden
from gold.run_golden_history import write_history

HERE = Path(__file__).resolve().parent


def main(argv: list[str] | None = None) -> int:
    """Run phase 9B on the overrides that changed."""
    argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    ).parse_args(argv)
    with phase("9B", "run_steward_overrides") as work:
        cursor = work.cursor
        cursor.execute(
            "create unlogged table gold.working_customers "
            "(customer bigint generated always as identity, "
            "global_customer_id uuid not null, created_at timestamptz not null)"
        )
        work.rows_in = run_file(cursor, HERE / "changed_overrides.sql", {"run_id": work.run_id})
        if work.rows_in:
            cursor.execute("analyze gold.working_customers")
            work.rows_out = make_golden(work)
            work.detail["versions"] = write_history(work, work.run_id - 1, work.run_id)
            _, work.detail["events"] = write_events(
                work, work.run_id - 1, split_mark=work.mark(LINEAGE, "run_golden_cdc")
            )
        else:
            work.skip("no override changed")
        cursor.execute("drop table gold.working_customers")
    return 0


if __name__ == "__main__":
    run_script(main)
