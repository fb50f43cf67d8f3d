"""Take the lines of erased people out of the objects of the lake.

Each object listed in gold.erasure_objects is streamed, the lines are blanked, and it is stored under the same
key. Lines keep their numbers, so what names an object and a line still holds. The new ETag is written to
raw.ingested_objects before the object is stored, so it is not taken in as a new delivery; killed in between,
the script is simply run again. Line numbers are those of one delivery: where another one lies under the key by
now, nothing is done, as its own lines are listed by themselves. Where a delivery that was rewritten was put back
as it came, it is rewritten again.

Usage: python gold/rewrite_erased_objects.py
"""

import argparse
import gzip
import hashlib
import tempfile
import zlib
from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import BinaryIO

from psycopg2.extensions import connection as Connection
from psycopg2.extensions import cursor as Cursor

from db.errors import run_script
from db.lake import Lake
from db.postgres import connect, run_file

HERE = Path(__file__).resolve().parent
GZIP_MAGIC = b"\x1f\x8b"
BLOCK = 1024 * 1024


def main(argv: list[str] | None = None) -> int:
    """Rewrite what waits; says which objects could not be."""
    argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    ).parse_args(argv)
    lake = Lake.from_settings()
    rewritten, left = 0, []
    with connect() as connection, connection.cursor() as cursor:
        run_file(cursor, HERE / "erased_redeliveries.sql")
        cursor.execute(
            "select object_key, array_agg(object_id), "
            "coalesce(array_agg(object_id) filter (where rewritten_at is null), '{}') "
            "from gold.erasure_objects group by object_key order by object_key"
        )
        for key, known, waiting in cursor.fetchall():
            etag = _etag(lake, key)
            delivery, is_rewritten = _delivery_of(cursor, key, etag)
            if waiting and etag is not None and delivery is None:
                left.append(key)
                continue
            if delivery in known and (delivery in waiting or not is_rewritten):
                _rewrite(lake, connection, delivery, key)
                rewritten += 1
            # The others are deleted or replaced.
            cursor.execute(
                "update gold.erasure_objects set rewritten_at = now() where object_id = any(%s)", (waiting,)
            )
            connection.commit()
    print(f"  rewrite_erased_objects: {rewritten} rewritten, {len(left)} left")
    if left:
        print("  Replaced in the lake and not ingested yet; ingest them, then run this again:")
        print("\n".join(f"    {key}" for key in left))
    return 1 if left else 0


def _etag(lake: Lake, key: str) -> str | None:
    """The ETag of what lies under the key now; None: nothing does."""
    return next((found.etag for found in lake.list(key) if found.key == key), None)


def _delivery_of(cursor: Cursor, key: str, etag: str | None) -> tuple[int | None, bool]:
    """The delivery that lies under the key with this ETag, and whether it was rewritten; None: it is a new one."""
    cursor.execute(
        "select coalesce(objects.rewritten_from, objects.object_id), objects.rewritten_from is not null "
        "from raw.ingested_objects as objects "
        "inner join raw.current_objects as known using (object_key, etag) "
        "where objects.object_key = %s and objects.etag = %s order by objects.object_id desc limit 1",
        (key, etag),
    )
    return cursor.fetchone() or (None, False)


def _rewrite(lake: Lake, connection: Connection, object_id: int, key: str) -> None:
    """Store the object without the lines listed of this delivery. Memory: their numbers, one line and one block."""
    with connection.cursor() as cursor:
        cursor.execute(
            "select record_lines, text_lines from gold.erasure_objects where object_id = %s", (object_id,)
        )
        record_lines, text_lines = map(set, cursor.fetchone())
    with tempfile.TemporaryFile() as rewritten:
        with lake.open(key) as stream:
            write_blanked(
                stream, rewritten, record_lines, text_lines, ".csv" in key.lower().rpartition("/")[2]
            )
        size = rewritten.tell()
        rewritten.seek(0)
        etag = hashlib.file_digest(rewritten, "md5").hexdigest()
        rewritten.seek(0)
        _expect(connection, object_id, etag, size)
        lake.put_file(key, rewritten, size)
    # A store may give an ETag that is not the MD5 of the content.
    actual = _etag(lake, key)
    if actual not in (etag, None):
        _expect(connection, object_id, actual, size)
    with connection.cursor() as cursor:
        cursor.execute(
            "update gold.erasure_objects set rewritten_at = now(), etag = %s where object_id = %s",
            (actual or etag, object_id),
        )


def _expect(connection: Connection, object_id: int, etag: str, size: int) -> None:
    """Have ingestion know the coming ETag of what is left of a delivery; it brings no rows."""
    with connection.cursor() as cursor:
        cursor.execute(
            "insert into raw.ingested_objects (source_system, object_key, etag, size_bytes, last_modified, "
            "row_count, rejected_count, run_id, delivery, rewritten_from) "
            "select source_system, object_key, %(etag)s, %(size)s, last_modified, 0, 0, run_id, "
            "(select count(*) + 1 from raw.ingested_objects as known "
            "where known.object_key = objects.object_key and known.etag = %(etag)s), object_id "
            "from raw.ingested_objects as objects where object_id = %(object_id)s "
            "and not exists (select from raw.ingested_objects as known where known.object_key = objects.object_key "
            "and known.etag = %(etag)s and coalesce(known.rewritten_from, known.object_id) = objects.object_id)",
            {"etag": etag, "size": size, "object_id": object_id},
        )
    connection.commit()


def write_blanked(
    stream: BinaryIO, out: BinaryIO, record_lines: set[int], text_lines: set[int], is_csv: bool
) -> None:
    """Copy `stream` to `out` with these lines (from 1) empty; compressed again where it was compressed.

    A CSV record goes on over the following lines while a quote is open.
    """
    blocks = _blocks(stream)
    first = next(blocks, b"")
    compressed = first.startswith(GZIP_MAGIC)
    lines = _lines(_unpacked(chain([first], blocks)) if compressed else chain([first], blocks))
    target = gzip.GzipFile(fileobj=out, mode="wb", mtime=0, filename="") if compressed else out
    is_open = False
    for number, line in enumerate(lines, 1):
        starts = number in record_lines
        if starts or number in text_lines or is_open:
            odd_quotes = is_csv and line.count(b'"') & 1
            is_open = bool(odd_quotes) if starts and not is_open else is_open and not odd_quotes
            line = b"\n" if line.endswith(b"\n") else b""
        target.write(line)
    if compressed:
        target.close()


def _blocks(stream: BinaryIO) -> Iterator[bytes]:
    while block := stream.read(BLOCK):
        yield block


def _unpacked(blocks: Iterable[bytes]) -> Iterator[bytes]:
    """The content of a gzip, of several members too; what is damaged ends it, as it does for ingestion."""
    unpack = zlib.decompressobj(wbits=31)
    try:
        for block in blocks:
            while block:
                if data := unpack.decompress(block, BLOCK):
                    yield data
                block = unpack.unconsumed_tail
                if unpack.eof:
                    block, unpack = unpack.unused_data, zlib.decompressobj(wbits=31)
    except zlib.error:
        return


def _lines(blocks: Iterable[bytes]) -> Iterator[bytes]:
    """Lines with their ends."""
    rest = b""
    for block in blocks:
        *whole, rest = (rest + block).split(b"\n")
        yield from (line + b"\n" for line in whole)
    if rest:
        yield rest


if __name__ == "__main__":
    run_script(main)
