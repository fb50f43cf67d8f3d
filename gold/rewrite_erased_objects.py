"""Take the lines of erased people out of the objects of the lake.

Each object listed in gold.erasure_objects is streamed, the lines are blanked, and it is stored under the same
key. Lines keep their numbers, so what names an object and a line still holds. The new ETag is written to
raw.ingested_objects before the object is stored, so it is not taken in as a new delivery; killed in between,
the script is simply run again.

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
            "select object_id, object_key, etag, record_lines, text_lines from gold.erasure_objects "
            "where rewritten_at is null order by object_key, object_id"
        )
        for object_id, key, etag, record_lines, text_lines in cursor.fetchall():
            now = next((found.etag for found in lake.list(key) if found.key == key), None)
            rows = _rows_of(cursor, key, now)
            if now == etag or rows == 0:
                etag = _rewrite(lake, connection, object_id, key, set(record_lines), set(text_lines))
                rewritten += 1
            elif now is not None and rows is None:
                left.append(key)
                continue
            # Else deleted, or replaced by a delivery that is listed by itself: nothing to do.
            cursor.execute(
                "update gold.erasure_objects set rewritten_at = now(), etag = %s where object_id = %s",
                (etag, object_id),
            )
            connection.commit()
    print(f"  rewrite_erased_objects: {rewritten} rewritten, {len(left)} left")
    if left:
        print("  Replaced in the lake and not ingested yet; ingest them, then run this again:")
        print("\n".join(f"    {key}" for key in left))
    return 1 if left else 0


def _rows_of(cursor: Cursor, key: str, etag: str | None) -> int | None:
    """Lines ingestion took from the object under this ETag: 0 for one rewritten here, None for a new one."""
    cursor.execute(
        "select row_count + rejected_count from raw.ingested_objects where object_key = %s and etag = %s "
        "order by object_id desc limit 1",
        (key, etag),
    )
    row = cursor.fetchone()
    return row[0] if row else None


def _rewrite(
    lake: Lake, connection: Connection, object_id: int, key: str, record_lines: set[int], text_lines: set[int]
) -> str:
    """Store the object without the lines; returns its new ETag. Memory: one line and one block."""
    with tempfile.TemporaryFile() as rewritten:
        with lake.open(key) as stream:
            write_blanked(stream, rewritten, record_lines, text_lines, ".csv" in key.rpartition("/")[2])
        size = rewritten.tell()
        rewritten.seek(0)
        etag = hashlib.file_digest(rewritten, "md5").hexdigest()
        rewritten.seek(0)
        _expect(connection, object_id, etag, size)
        lake.put_file(key, rewritten, size)
    # A store may give an ETag that is not the MD5 of the content.
    actual = next(found.etag for found in lake.list(key) if found.key == key)
    if actual != etag:
        _expect(connection, object_id, actual, size)
    return actual


def _expect(connection: Connection, object_id: int, etag: str, size: int) -> None:
    """Have ingestion know the object's coming ETag; it brings no rows."""
    with connection.cursor() as cursor:
        cursor.execute(
            "insert into raw.ingested_objects (source_system, object_key, etag, size_bytes, last_modified, "
            "row_count, rejected_count, run_id) "
            "select source_system, object_key, %s, %s, last_modified, 0, 0, run_id "
            "from raw.ingested_objects where object_id = %s on conflict (object_key, etag, delivery) do nothing",
            (etag, size, object_id),
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
