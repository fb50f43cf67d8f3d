"""Phase 4: the distinct profiles among the records of all sources.

Takes the cleaned records of runs after its mark, and what they replaced. A profile is one combination of the
attributes that are matched; it comes to life with its first record and dies with its last. The records
themselves are staging.identity_inputs as soon as they are staged.

Usage: python staging/run_identity_inputs.py
"""

import argparse
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

from psycopg2.extensions import cursor as Cursor
from psycopg2.sql import SQL, Identifier

from db.errors import run_script
from db.one_ahead import OneAhead
from db.phase import Phase, phase
from db.postgres import bulk_load, connect, copy_in, copy_out, copy_out_numbers, is_empty, run_file

if TYPE_CHECKING:
    import polars as pl

HERE = Path(__file__).resolve().parent
PROFILES = "staging.match_profiles"
# Changed records that are taken at once.
RANGE = 3_000_000
# From so many on the sources are read beside one another, by so many connections.
MANY = 100_000
READERS = 2
# What is matched, as the sources' tables and as match_profiles name it.
MATCHED = {
    "birth_date": "birth_date",
    "email": "email",
    "email_mailbox": "email_mailbox",
    "phone": "phone",
    "given_name": "given_name",
    "family_name": "family_name",
    "address_key": "address",
    "city_key": "city",
    "postal_code": "postal_code",
    "national_id": "national_id",
}


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
    """Count the changed records of every source in match_profiles.

    Memory: what is matched of twice RANGE changed records, some 400 bytes each: more are taken by ranges of their
    profiles' keys, which are hashes, the next of which is read while one is counted.
    """
    work.cursor.execute("select staging_table from raw.sources order by source_system")
    marks = {table: work.mark(f"staging.{table}") for (table,) in work.cursor.fetchall()}
    changed = {table: count_changed(work, table, mark) for table, mark in marks.items()}
    for table in marks:
        work.advance(f"staging.{table}")
    work.rows_in = work.rows_out = sum(changed.values())
    if not work.rows_in:
        work.skip("no changed records in staging")
        return
    work.has_work()
    import polars as pl

    departures = read_departures(work, max(marks.values()))
    ranges = -(-work.rows_in // RANGE)
    bounds = [-(2**63) + place * 2**64 // ranges for place in range(ranges)] + [2**63]
    parts = [(least, most - 1) for least, most in pairwise(bounds)]
    some = {table: marks[table] for table in changed if changed[table]}
    with bulk_load(work.cursor, PROFILES, with_keys=True), ThreadPoolExecutor(1) as reader:
        is_first = is_empty(work.cursor, PROFILES)
        # Few are read by the phase's own cursor, but are one part: nobody else is at it meanwhile.
        arrivals = OneAhead(reader, (read_all_arrivals(work, some, part) for part in parts))
        for part, arrived in zip(parts, arrivals, strict=True):
            gone = departures.filter(pl.col("profile_key").is_between(*part))
            write_changes(work, profile_changes(pl.concat(arrived), gone), is_first)
    work.refresh_statistics(PROFILES)
    # They are few; truncated, they would have to wait for who reads them, as a dump does for long.
    work.cursor.execute("delete from staging.replaced_versions")


def count_changed(work: Phase, table: str, mark: int) -> int:
    """The records of a source that came after the mark."""
    work.cursor.execute(
        SQL("select count(*) from staging.{} where run_id > %s").format(Identifier(table)), (mark,)
    )
    return work.cursor.fetchone()[0]


def read_all_arrivals(work: Phase, marks: dict[str, int], part: tuple[int, int]) -> "list[pl.DataFrame]":
    """What read_arrivals gives of each source; of many records over READERS connections."""
    if work.rows_in < MANY:
        return [read_arrivals(work.cursor, table, mark, part) for table, mark in marks.items()]

    def read(source: tuple[str, int]) -> "pl.DataFrame":
        with connect() as connection, connection.cursor() as cursor:
            return read_arrivals(cursor, *source, part)

    with ThreadPoolExecutor(READERS) as readers:
        return list(readers.map(read, marks.items()))


def read_arrivals(cursor: Cursor, table: str, mark: int, part: tuple[int, int]) -> "pl.DataFrame":
    """What is matched of the live records of a source that came after the mark, of a range of profiles."""
    import polars as pl

    columns = SQL(", ").join(map(Identifier, MATCHED))
    query = SQL(
        "select profile_key, {} from staging.{} where run_id > %s and not is_deleted "
        "and profile_key between %s and %s"
    ).format(columns, Identifier(table))
    schema = {"profile_key": pl.Int64} | dict.fromkeys(MATCHED.values(), pl.String)
    return copy_out(cursor, query, schema, (mark, *part))


def read_departures(work: Phase, mark: int) -> "pl.DataFrame":
    """The profiles of versions that were counted and are replaced; what came after the mark was not counted."""
    import polars as pl

    query = "select profile_key from staging.replaced_versions where run_id <= %s"
    return copy_out_numbers(work.cursor, query, {"profile_key": pl.Int64}, (mark,))


def profile_changes(arrivals: "pl.DataFrame", departures: "pl.DataFrame") -> "pl.DataFrame":
    """One row per profile that gained or lost records: what is matched, null where none came, and the change.

    Records of one profile agree in all that is matched, so the first gives its values.
    """
    import polars as pl

    counted = (
        arrivals.select("profile_key")
        .with_row_index("row")
        .group_by("profile_key")
        .agg(pl.len().alias("change"), pl.col("row").min())
        .sort("profile_key")
    )
    came = arrivals[counted["row"]].with_columns(counted["change"].cast(pl.Int32))
    if departures.is_empty():
        return came
    gone = departures.group_by("profile_key").agg(gone=pl.len().cast(pl.Int32))
    change = pl.col("change").fill_null(0) - pl.col("gone").fill_null(0)
    return (
        came.join(gone, on="profile_key", how="full", coalesce=True).with_columns(change=change).drop("gone")
    )


def write_changes(work: Phase, changes: "pl.DataFrame", is_first: bool) -> None:
    """Bring match_profiles up to date; is_first: it holds nothing of these profiles."""
    if is_first:
        profiles = changes.rename({"change": "record_count"}).with_columns(run_id=work.run_id)
        copy_in(work.cursor, PROFILES, profiles)
        return
    work.cursor.execute(
        "create temp table profile_changes (like staging.match_profiles, change integer) "
        "on commit drop; alter table profile_changes drop run_id, drop record_count"
    )
    copy_in(work.cursor, "pg_temp.profile_changes", changes)
    run_file(work.cursor, HERE / "match_profiles.sql", {"run_id": work.run_id})
    work.cursor.execute("drop table profile_changes")


if __name__ == "__main__":
    run_script(main)
