"""Phase 4: the distinct profiles among the records of all sources.

Takes the cleaned records of runs after its mark, and what they replaced. A profile is one combination of the
attributes that are matched; it comes to life with its first record and dies with its last. The records
themselves are staging.identity_inputs as soon as they are staged.

Usage: python staging/run_identity_inputs.py
"""

import argparse
from pathlib import Path

from psycopg2.sql import SQL, Identifier, Literal

from db.errors import run_script
from db.phase import Phase, phase
from db.postgres import bulk_load

HERE = Path(__file__).resolve().parent


def main(argv: list[str] | None = None) -> int:
    """Run the phase."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.parse_args(argv)
    with phase("4", "run_identity_inputs") as work:
        unite(work)
    return 0


def unite(work: Phase) -> None:
    """Count the changed records of every source in match_profiles."""
    work.cursor.execute("select staging_table from raw.sources order by source_system")
    changed, counted_run_id = [], 0
    for (staging_table,) in work.cursor.fetchall():
        table, mark = Identifier(staging_table), work.mark(f"staging.{staging_table}")
        counted_run_id = max(counted_run_id, mark)
        work.cursor.execute(SQL("select count(*) from staging.{} where run_id > %s").format(table), (mark,))
        (records,) = work.cursor.fetchone()
        if records:
            work.rows_in += records
            changed.append(SQL("select * from staging.{} where run_id > {}").format(table, Literal(mark)))
        work.advance(f"staging.{staging_table}")
    if not changed:
        work.skip("no changed records in staging")
        return
    statement = (HERE / "match_profiles.sql").read_text(encoding="utf-8")
    with bulk_load(work.cursor, "staging.match_profiles"):
        work.cursor.execute(
            SQL(statement).format(changed_records=SQL("\nunion all\n").join(changed)),
            {"run_id": work.run_id, "counted_run_id": counted_run_id},
        )
    work.refresh_statistics("staging.match_profiles")
    work.rows_out = work.rows_in


if __name__ == "__main__":
    run_script(main)
