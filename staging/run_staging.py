"""Phase 3: clean the delivered lines into one row per source record, its latest version.

Takes the raw rows of runs after its mark, source by source; a changed mapping in the sources file takes all
of that source again. Of several deliveries of a record the newest event_ts wins; ties go to the later one.
What is invalid or junk is kept in `issues` with its reason and stays out of matching.

Usage: python staging/run_staging.py
"""

import argparse
import hashlib
import json
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

from psycopg2.sql import SQL, Identifier

from db.errors import run_script
from db.phase import Phase, phase
from db.postgres import connect, copy_in, copy_out
from db.settings import settings

HERE = Path(__file__).resolve().parent
BATCH_ROWS = 100_000
CLEANERS = 2


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
    """Stage every source that has something new; the marks move with the rows."""
    work.cursor.execute(
        "select source_system, raw_table, staging_table, record_id_field, attributes, day_first, region "
        "from raw.sources order by source_system"
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
    with work.progress(sum(rows for _, objects in jobs for _, rows in objects)) as bar:
        for source, objects in jobs:
            stage_source(work, source, objects, bar)
            work.advance(f"raw.{source['raw_table']}", configuration_of(source))
            work.refresh_statistics(f"staging.{source['staging_table']}")


def configuration_of(source: dict) -> str:
    """Hash of what decides how a line of this source is read."""
    text = json.dumps(
        [source["attributes"], source["day_first"], source["region"], settings.mdm_default_region]
    )
    return hashlib.sha256(text.encode()).hexdigest()


def new_objects(work: Phase, source: dict) -> list[tuple[int, int]]:
    """(object_id, rows) of the source's objects after the mark; all of them when the mapping has changed."""
    upstream = f"raw.{source['raw_table']}"
    mark = work.mark(upstream)
    if work.configuration(upstream) not in (None, configuration_of(source)):
        mark = 0
        work.detail["mapping_changed"] = source["source_system"]
        # The latest delivery is not newer than itself: what was staged under the old mapping must go first.
        work.cursor.execute(
            SQL("update staging.{} set event_ts = '-infinity'").format(Identifier(source["staging_table"]))
        )
    work.cursor.execute(
        "select object_id, row_count from raw.ingested_objects "
        "where source_system = %s and run_id > %s and row_count > 0 order by object_id",
        (source["source_system"], mark),
    )
    return work.cursor.fetchall()


def stage_source(work: Phase, source: dict, objects: list[tuple[int, int]], bar) -> None:
    """Read, clean and write the objects batch by batch; the cleaning on all cores, the writing beside it.

    Memory: CLEANERS + 2 batches of BATCH_ROWS lines, whatever the size of raw.
    """
    from staging.source_records import clean_records

    work.cursor.execute(
        "select object_id, row_number() over (order by last_modified, object_key, object_id) "
        "from raw.ingested_objects where source_system = %s",
        (source["source_system"],),
    )
    delivery = dict(work.cursor.fetchall())
    region = source["region"] or settings.mdm_default_region
    today = datetime.now(UTC).date()
    with (
        connect() as reader_connection,
        reader_connection.cursor() as reader,
        ThreadPoolExecutor(1) as writer,
        ThreadPoolExecutor(CLEANERS) as cleaners,
    ):
        cleaning, writing = deque(), deque()
        for batch in batches(objects):
            lines = read_lines(reader, source, batch)
            work.rows_in += lines.height
            bar.update(lines.height)
            cleaning.append(
                cleaners.submit(clean_records, lines, source, delivery, region=region, today=today)
            )
            while len(cleaning) > CLEANERS:
                writing.append(writer.submit(write_records, work, source, cleaning.popleft().result()))
            while len(writing) > 1:
                work.rows_out += writing.popleft().result()
        for cleaned in cleaning:
            writing.append(writer.submit(write_records, work, source, cleaned.result()))
        work.rows_out += sum(written.result() for written in writing)


def batches(objects: list[tuple[int, int]]) -> list[list[int]]:
    """Object ids in groups of about BATCH_ROWS rows, each object whole."""
    groups, rows = [[]], 0
    for object_id, count in objects:
        if rows + count > BATCH_ROWS and groups[-1]:
            groups.append([])
            rows = 0
        groups[-1].append(object_id)
        rows += count
    return groups


def read_lines(reader, source: dict, object_ids: list[int]):
    """The delivered lines of these objects, as a frame."""
    import polars as pl

    query = SQL(
        "select record_key, record_id, object_id, line_number, event_ts, is_deleted, payload "
        "from raw.{} where object_id = any(%s)"
    ).format(Identifier(source["raw_table"]))
    schema = {
        "record_key": pl.Int64,
        "record_id": pl.String,
        "object_id": pl.Int32,
        "line_number": pl.Int32,
        "event_ts": pl.String,
        "is_deleted": pl.String,
        "payload": pl.String,
    }
    return copy_out(reader, query, schema, (object_ids,))


def write_records(work: Phase, source: dict, records) -> int:
    """Add the records to the source's table, replacing older versions; returns how many were new or newer."""
    table = Identifier(source["staging_table"])
    work.cursor.execute(SQL("select 1 from staging.{} limit 1").format(table))
    records = records.with_columns(run_id=work.run_id).sort("record_key")
    if work.cursor.fetchone() is None:
        return copy_in(work.cursor, f"staging.{source['staging_table']}", records)
    work.cursor.execute(
        SQL("create temp table delivered (like staging.{} including defaults) on commit drop").format(table)
    )
    copy_in(work.cursor, "pg_temp.delivered", records)
    statement = (HERE / "upsert_source_records.sql").read_text(encoding="utf-8")
    work.cursor.execute(SQL(statement).format(target=table))
    written = work.cursor.rowcount
    work.cursor.execute("drop table delivered")
    return written


if __name__ == "__main__":
    run_script(main)
