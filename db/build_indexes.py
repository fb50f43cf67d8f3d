"""Builds the indexes that a first load has left, one after the other, beside the phases that do not need them.

Each is a transaction of its own: what is left when this is ended is built by the next run, or by the phase that
needs it (postgres.build_left_indexes).

Usage: python db/build_indexes.py
"""

import argparse
import time

from db.errors import run_script
from db.postgres import analyze_if_built, build_left_index, connect
from db.settings import settings

# The other cores are for the phases at work.
ONE_CORE = "set local max_parallel_maintenance_workers = 0"
NEXT_INDEX = (
    "select index_name from gold.indexes_to_build "
    "order by table_name, index_name limit 1 for update skip locked"
)


def main(argv: list[str] | None = None) -> int:
    """Build them all."""
    argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    ).parse_args(argv)
    started, count = time.perf_counter(), 0
    while build_one():
        count += 1
    if count and not settings.mdm_quiet:
        print(f"  build_indexes: {count} in {time.perf_counter() - started:.2f} s, beside the phases")
    return 0


def build_one() -> bool:
    """Build an index that nobody else is building; false where there is none."""
    with connect() as connection, connection.cursor() as cursor:
        cursor.execute(ONE_CORE)
        cursor.execute(NEXT_INDEX)
        found = cursor.fetchone()
        if found:
            table = build_left_index(cursor, *found)
            # Of two that build the last ones of a table, one sees by then that the other has.
            connection.commit()
            analyze_if_built(cursor, table)
    return bool(found)


if __name__ == "__main__":
    run_script(main)
