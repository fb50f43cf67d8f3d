"""Phase 4: the distinct profiles among the records of all sources.

Takes the cleaned records of runs after its mark, and what they replaced. A profile is one combination of the
attributes that are matched; it comes to life with its first record and dies with its last. The records
themselves are staging.identity_inputs as soon as they are staged.

Usage: python staging/run_identity_inputs.py
"""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from psycopg2.sql import SQL, Identifier

from db.errors import run_script
from db.phase import Phase, phase
from db.postgres import bulk_load, copy_in, copy_out, is_empty, run_file

if TYPE_CHECKING:
    import polars as pl

HERE = Path(__file__).resolve().parent
PROFILES = "staging.match_profiles"
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

    Memory: what is matched of the changed records, some 250 bytes each.
    """
    work.cursor.execute("select staging_table from raw.sources order by source_system")
    marks = {table: work.mark(f"staging.{table}") for (table,) in work.cursor.fetchall()}
    arrived = []
    for table, mark in marks.items():
        changed = SQL("select exists (select from staging.{} where run_id > %s)").format(Identifier(table))
        work.cursor.execute(changed, (mark,))
        if work.cursor.fetchone()[0]:
            arrived.append(read_arrivals(work, table, mark))
        work.advance(f"staging.{table}")
    if not arrived:
        work.skip("no changed records in staging")
        return
    import polars as pl

    changes = profile_changes(pl.concat(arrived), read_departures(work, max(marks.values())))
    write_changes(work, changes)
    work.cursor.execute("truncate staging.replaced_versions")
    work.rows_out = work.rows_in


def read_arrivals(work: Phase, table: str, mark: int) -> "pl.DataFrame":
    """What is matched of the records of a source that came after the mark, without the withdrawn ones."""
    import polars as pl

    columns = SQL(", ").join(map(Identifier, MATCHED))
    query = SQL("select profile_key, is_deleted, {} from staging.{} where run_id > %s").format(
        columns, Identifier(table)
    )
    schema = dict.fromkeys(("profile_key", "is_deleted", *MATCHED.values()), pl.String)
    records = copy_out(work.cursor, query, schema | {"profile_key": pl.Int64}, (mark,))
    work.rows_in += records.height
    return records.filter(is_deleted="f").drop("is_deleted")


def read_departures(work: Phase, mark: int) -> "pl.DataFrame":
    """The profiles of versions that were counted and are replaced; what came after the mark was not counted."""
    import polars as pl

    query = "select profile_key from staging.replaced_versions where run_id <= %s"
    return copy_out(work.cursor, query, {"profile_key": pl.Int64}, (mark,))


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


def write_changes(work: Phase, changes: "pl.DataFrame") -> None:
    """Bring match_profiles up to date."""
    with bulk_load(work.cursor, PROFILES, with_keys=True):
        if is_empty(work.cursor, PROFILES):
            profiles = changes.rename({"change": "record_count"}).with_columns(run_id=work.run_id)
            copy_in(work.cursor, PROFILES, profiles)
        else:
            work.cursor.execute(
                "create temp table profile_changes (like staging.match_profiles, change integer) "
                "on commit drop; alter table profile_changes drop run_id, drop record_count"
            )
            copy_in(work.cursor, "pg_temp.profile_changes", changes)
            run_file(work.cursor, HERE / "match_profiles.sql", {"run_id": work.run_id})
    work.refresh_statistics(PROFILES)


if __name__ == "__main__":
    run_script(main)
