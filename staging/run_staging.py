"""Phase 3: clean the delivered lines into one row per source record, its latest version.

Takes the raw rows of runs after its mark, source by source; a changed mapping in the sources file takes all
of that source again, another version of the cleaning all of every source. Of several deliveries of a record the
newest event_ts wins; ties go to the later one.
What is invalid or junk is kept in `issues` with its reason and stays out of matching. A mapped field that no line has
is a warning.

Usage: python staging/run_staging.py
"""

import argparse
import hashlib
import json
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

from psycopg2.extensions import cursor as Cursor
from psycopg2.sql import SQL, Identifier

from db.errors import ConfigurationError, run_script
from db.phase import Phase, phase
from db.postgres import (
    bulk_load,
    connect,
    copy_in,
    copy_out_lines,
    copy_out_numbers,
    is_empty,
    table_identifier,
)
from db.settings import settings

if TYPE_CHECKING:
    import polars as pl

    from staging.source_records import Delivered

HERE = Path(__file__).resolve().parent
BATCH_ROWS = 200_000
CLEANERS = 2
# Of the first lines of a source so many without a mapped field are no accident. Later it may just be rare.
MIN_LINES = 10
EPOCH = datetime(2000, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Part:
    """Cleaned records of one source, their table (`schema.table`), and how many lines they came from."""

    table: str
    line_count: int
    records: "pl.DataFrame"


@dataclass
class UnseenFields:
    """The mapped fields of a source that no line has had so far, with what they are for; and how many lines came."""

    fields: dict[str, str]
    line_count: int = 0

    @classmethod
    def of(cls, source: dict) -> "UnseenFields":
        fields = {source["event_ts_field"]: "event_ts"} if source["event_ts_field"] else {}
        for attribute, named in source["attributes"].items():
            fields |= dict.fromkeys([named] if isinstance(named, str) else named, attribute)
        return cls(fields)

    def look_at(self, delivered: "Delivered") -> None:
        """Forget the fields that these lines have. A name is found at once where it is there, in whatever place."""
        self.line_count += delivered.lines.height - delivered.lines["is_deleted"].sum()
        for name in list(self.fields):
            if any(
                json.dumps(name, ensure_ascii=way).encode() in delivered.payloads for way in (False, True)
            ):
                del self.fields[name]


def main(argv: list[str] | None = None) -> int:
    """Run the phase."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.parse_args(argv)
    with phase("3", "run_staging") as work:
        stage_all(work)
    return 0


def stage_all(work: Phase) -> None:
    """Stage every source that has something new; the marks move with the rows.

    Batches of lines are cleaned on all cores, while others are read and written beside it.

    Memory: CLEANERS + 2 batches of BATCH_ROWS lines, and some 30 bytes per new line.
    """
    work.cursor.execute(
        "select source_system, raw_table, staging_table, record_id_field, event_ts_field, attributes, day_first, "
        "region from raw.sources order by source_system"
    )
    names = [column.name for column in work.cursor.description]
    jobs = []
    for row in work.cursor.fetchall():
        source = dict(zip(names, row, strict=True))
        objects = new_objects(work, source)
        if objects:
            jobs.append((source, objects))
    if not jobs:
        work.skip("no new rows in raw")
        return
    work.has_work()
    unseen = {
        source["source_system"]: UnseenFields.of(source) for source, _ in jobs if is_read_whole(work, source)
    }
    line_count = sum(rows for _, objects in jobs for _, rows in objects)
    with (
        work.progress(line_count) as bar,
        connect() as connection,
        connection.cursor() as reader,
        ThreadPoolExecutor(1) as reading,
        ThreadPoolExecutor(CLEANERS) as cleaning,
    ):
        # One batch has all cores for itself.
        threads = CLEANERS if line_count <= BATCH_ROWS else 1
        parts = cleaned_parts(read_batches(reader, jobs, unseen), reading, cleaning, threads)
        for table, parts_of_source in groupby(parts, key=lambda part: part.table):
            # The keys of one table are made while the next source is being cleaned.
            with bulk_load(work.cursor, table, with_keys=True):
                is_first = is_empty(work.cursor, table)
                for part in parts_of_source:
                    work.rows_in += part.line_count
                    work.rows_out += write_records(work, part, is_first)
                    bar.update(part.line_count)
            work.refresh_statistics(table, columns=("record_key", "profile_key", "run_id", "is_deleted"))
    for name, fields in unseen.items():
        warn_of_unseen(work, name, fields)
    for source, _ in jobs:
        work.advance(f"raw.{source['raw_table']}", configuration_of(source))


def is_read_whole(work: Phase, source: dict) -> bool:
    """Whether all lines that there are of a source are cleaned now: they are the first, or are cleaned again."""
    is_first = not work.mark(f"raw.{source['raw_table']}")
    return is_first or source["source_system"] in work.detail.get("cleaned_again", [])


def warn_of_unseen(work: Phase, name: str, unseen: UnseenFields) -> None:
    """Warn of the mapped fields that are in none of the lines that came of the source of this name."""
    if unseen.line_count >= MIN_LINES:
        for missing, what in unseen.fields.items():
            work.warn(
                f"{name}: no line has the field {missing} ({what}). Mend its name in the sources file if it is "
                "another; of JSON the fields are those at the top of the line."
            )


def configuration_of(source: dict) -> str:
    """Hash of what decides how a line of this source is read and cleaned."""
    text = json.dumps(
        [
            source["attributes"],
            source["day_first"],
            source["region"],
            settings.mdm_default_region,
            cleaning_version(HERE),
        ]
    )
    return hashlib.sha256(text.encode()).hexdigest()


@cache
def cleaning_version(folder: Path) -> str:
    """Hash of the code and words that clean, in this folder: by a later version records are cleaned again."""
    files = [folder / "source_records.py", *sorted((folder / "normalizers").iterdir())]
    parts = [file.read_bytes() for file in files if file.suffix in (".py", ".toml")]
    return hashlib.sha256(b"".join(parts)).hexdigest()


def new_objects(work: Phase, source: dict) -> list[tuple[int, int]]:
    """(object_id, rows) of the source's objects after the mark; all of them when they are to be read otherwise."""
    upstream = f"raw.{source['raw_table']}"
    mark = work.mark(upstream)
    if work.configuration(upstream) not in (None, configuration_of(source)):
        mark = 0
        work.detail["cleaned_again"] = [*work.detail.get("cleaned_again", []), source["source_system"]]
        # The latest delivery is not newer than itself: what was staged before must go first.
        work.cursor.execute(
            SQL("update staging.{} set event_ts = '-infinity'").format(Identifier(source["staging_table"]))
        )
    work.cursor.execute(
        "select object_id, row_count from raw.ingested_objects "
        "where source_system = %s and run_id > %s and row_count > 0 order by object_id",
        (source["source_system"], mark),
    )
    return work.cursor.fetchall()


def read_batches(
    reader: Cursor, jobs: list[tuple[dict, list[tuple[int, int]]]], unseen: dict[str, UnseenFields]
) -> Iterator[list["Delivered"]]:
    """The new lines of all sources, BATCH_ROWS of them at a time. unseen: of some sources; what the lines have is taken
    out."""
    batch, room = [], BATCH_ROWS
    for source, objects in jobs:
        lines = read_lines(reader, source, [object_id for object_id, _ in objects])
        start = 0
        while start < lines.height:
            part = lines.slice(start, room)
            batch.append(read_payloads(reader, source, part))
            if source["source_system"] in unseen:
                unseen[source["source_system"]].look_at(batch[-1])
            start, room = start + part.height, room - part.height
            if room == 0:
                yield batch
                batch, room = [], BATCH_ROWS
    if batch:
        yield batch


def read_lines(reader: Cursor, source: dict, object_ids: list[int]) -> "pl.DataFrame":
    """The lines of these objects without their payload, in order, and whether they are the latest here."""
    import polars as pl

    from staging.source_records import mark_latest

    reader.execute(
        "select object_id, row_number() over (order by last_modified, object_key, object_id) "
        "from raw.ingested_objects where source_system = %s",
        (source["source_system"],),
    )
    delivery = dict(reader.fetchall())
    query = SQL(
        "select record_key, object_id, line_number, event_ts, is_deleted from raw.{} "
        "where object_id = any(%s)"
    ).format(Identifier(source["raw_table"]))
    schema = {
        "record_key": pl.Int64,
        "object_id": pl.Int32,
        "line_number": pl.Int32,
        "event_ts": pl.Int64,
        "is_deleted": pl.Boolean,
    }
    lines = copy_out_numbers(reader, query, schema, (object_ids,))
    lines = lines.with_columns(event_ts=pl.lit(EPOCH) + pl.col("event_ts").cast(pl.Duration("us")))
    return mark_latest(lines.sort("object_id", "line_number"), delivery)


def read_payloads(reader: Cursor, source: dict, lines: "pl.DataFrame") -> "Delivered":
    """The lines with their payloads."""
    from staging.source_records import Delivered

    places = lines.select("object_id", "line_number")
    query = SQL(
        "select payload from raw.{} where (object_id, line_number) between %s and %s "
        "and object_id = any(%s) order by object_id, line_number"
    ).format(Identifier(source["raw_table"]))
    object_ids = places["object_id"].unique().to_list()
    payloads = copy_out_lines(reader, query, (places.row(0), places.row(-1), object_ids))
    return Delivered(source, lines, payloads)


def cleaned_parts(
    batches: Iterator[list["Delivered"]], reading: Executor, cleaning: Executor, threads: int
) -> Iterator[Part]:
    """The batches cleaned, in their order, while the next ones are read and cleaned beside. threads: of each."""
    from phonenumbers import SUPPORTED_REGIONS

    from staging.source_records import clean_records

    region, today = settings.mdm_default_region, datetime.now(UTC).date()
    if region not in SUPPORTED_REGIONS:
        raise ConfigurationError(
            f"MDM_DEFAULT_REGION is {region!r}; it takes a country of two capital letters (ISO 3166), like GB."
        )

    def clean(read: Future) -> list[Part]:
        batch = read.result()
        return [
            Part(f"staging.{source['staging_table']}", delivered.lines.height, records)
            for delivered, (source, records) in zip(
                batch,
                clean_records(batch, region=region, today=today, threads=threads) if batch else [],
                strict=True,
            )
        ]

    def next_parts() -> Future:
        return cleaning.submit(clean, reading.submit(next, batches, []))

    ahead = deque(next_parts() for _ in range(CLEANERS + 1))
    while parts := ahead.popleft().result():
        ahead.append(next_parts())
        yield from parts


def write_records(work: Phase, part: Part, is_first: bool) -> int:
    """Add the records to their source's table, replacing older versions; returns how many were added.

    is_first: the table had no rows when the phase began; no record comes twice in a phase.
    """
    records = part.records.with_columns(run_id=work.run_id)
    return copy_in(work.cursor, part.table, records) if is_first else upsert(work, part.table, records)


def upsert(work: Phase, table: str, records: "pl.DataFrame") -> int:
    """Add the records to a table that has some, or replace older versions; returns how many were written."""
    target = table_identifier(table)
    work.cursor.execute(
        SQL("create temp table delivered (like {} including generated) on commit drop").format(target)
    )
    copy_in(work.cursor, "pg_temp.delivered", records)
    statement = (HERE / "upsert_source_records.sql").read_text(encoding="utf-8")
    work.cursor.execute(SQL(statement).format(target=target), {"run_id": work.run_id})
    (written,) = work.cursor.fetchone()
    work.cursor.execute("drop table delivered")
    return written


if __name__ == "__main__":
    run_script(main)
