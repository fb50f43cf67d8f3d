"""Phase 4: the union of all sources' records, and the distinct profiles among them.

Takes the cleaned records of runs after its mark. A profile is one combination of the attributes that are
matched; it comes to life with its first record and dies with its last.

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
    """Bring the changed records of every source into identity_inputs and match_profiles."""
    work.cursor.execute("select source_system, staging_table from raw.sources order by source_system")
    changed = []
    for source_system, staging_table in work.cursor.fetchall():
        table, mark = Identifier(staging_table), work.mark(f"staging.{staging_table}")
        work.cursor.execute(SQL("select 1 from staging.{} where run_id > %s limit 1").format(table), (mark,))
        if work.cursor.fetchone():
            changed.append(
                SQL(
                    "select {} as source_system, records.* from staging.{} as records "
                    "where records.run_id > {}"
                ).format(Literal(source_system), table, Literal(mark))
            )
        work.advance(f"staging.{staging_table}")
    if not changed:
        work.skip("no changed records in staging")
        return
    statement = (HERE / "identity_inputs.sql").read_text(encoding="utf-8")
    with bulk_load(work.cursor, "staging.identity_inputs", "staging.match_profiles"):
        work.cursor.execute(
            SQL(statement).format(changed_records=SQL("\nunion all\n").join(changed)),
            {"run_id": work.run_id},
        )
    work.refresh_statistics("staging.identity_inputs", "staging.match_profiles")
    work.cursor.execute("select count(*) from changed_inputs")
    work.rows_in = work.rows_out = work.cursor.fetchone()[0]


if __name__ == "__main__":
    run_script(main)
