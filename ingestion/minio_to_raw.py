"""Phase 2: take the objects of the lake that are new into schema raw.

1. All objects below each source's prefix are listed; those whose key and ETag are not in
   raw.ingested_objects are new, wherever they lie: late ones and replaced ones too.
2. They are grouped into batches of one source. A batch is one transaction: its rows, its rejected lines,
   its rows of raw.ingested_objects and the watermark of its source.
3. Little work is done here; for more, one process per core takes batch after batch. An object is streamed,
   so memory does not grow with its size.

Usage: python ingestion/minio_to_raw.py [--sources FILE]
"""

import argparse
import io
import multiprocessing
import os
import signal
import threading
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess as Process
from pathlib import Path

from psycopg2.extensions import cursor as Cursor
from psycopg2.sql import SQL, Identifier, Literal

from db.errors import MdmError, run_script
from db.lake import Lake, LakeObject
from db.phase import Phase, phase
from db.postgres import connect, run_file
from db.settings import settings
from ingestion.readers import COLUMNS, DELIMITER, ENDINGS, ERASED, Chunk, Reader, Rejected, copied
from ingestion.sources import Source, read_sources, sync_sources

HERE = Path(__file__).resolve().parent
# Small objects share a transaction up to this many bytes or objects.
BATCH_BYTES = 8 * 1024 * 1024
BATCH_OBJECTS = 200
# Rows of small objects go to the server together from this many bytes on.
COPY_BYTES = 1024 * 1024
# Below this, starting processes would take longer than they save.
ALONE_BYTES = 16 * 1024 * 1024
REJECTED_COLUMNS = (
    "source_system",
    "object_id",
    "object_key",
    "line_number",
    "reason",
    "line_text",
    "run_id",
)
MOST_WORKERS = 4
ANALYZE_ROWS = 10_000


# Bytes read since the last step, and the counts when a batch is done.
Step = tuple[int, "Counts | None"]


@dataclass(frozen=True)
class Batch:
    """Objects of one source that are taken in together, in one transaction."""

    source: Source
    objects: list[LakeObject]

    @property
    def size(self) -> int:
        return sum(found.size for found in self.objects)


@dataclass(frozen=True)
class Part:
    """Some lines of one object."""

    object_id: int
    object_key: str
    chunk: Chunk


@dataclass
class Counts:
    """What a batch, or a whole run, has brought."""

    objects: int = 0
    rows: int = 0
    rejected: int = 0
    erased: int = 0
    tables: dict[str, int] = field(default_factory=dict)

    def add(self, other: "Counts") -> None:
        self.objects += other.objects
        self.rows += other.rows
        self.rejected += other.rejected
        self.erased += other.erased
        for table, rows in other.tables.items():
            self.tables[table] = self.tables.get(table, 0) + rows


def main(argv: list[str] | None = None) -> int:
    """Run the phase."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sources", type=Path, default=settings.mdm_sources_file, metavar="FILE")
    path = parser.parse_args(argv).sources
    sources = read_sources(path)
    with phase("2", "minio_to_raw") as work:
        ingest(work, sources, path)
    return 0


def ingest(work: Phase, sources: list[Source], path: Path) -> None:
    """Take in what is new below the prefixes of the sources."""
    lake = Lake.from_settings()
    with connect() as connection, connection.cursor() as cursor:
        # Committed on its own: the tables must be there for the transactions of the batches.
        if changed := sync_sources(cursor, sources, path):
            work.detail["changed_sources"] = ", ".join(changed)
        connection.commit()
        batches, foreign = new_batches(cursor, lake, sources)
    if foreign:
        work.detail["skipped_objects"] = len(foreign)
        work.detail["skipped_because"] = f"the name ends in none of {', '.join(ENDINGS)}"
        work.detail["skipped_examples"] = ", ".join(foreign[:5])
    if not batches:
        work.skip("no new objects")
        return
    work.has_work()
    size = sum(batch.size for batch in batches)
    alone = size < ALONE_BYTES or len(batches) == 1
    total = Counts()
    with (_here if alone else _in_processes)(work, lake, batches) as steps, work.progress(size, "B") as bar:
        for read, counts in steps:
            bar.update(read)
            if counts:
                total.add(counts)
    # Few rows tell how many objects there are, and how large.
    work.cursor.execute("set local default_statistics_target = 10")
    for table, rows in total.tables.items():
        if rows >= ANALYZE_ROWS:
            work.cursor.execute(SQL("analyze raw.{} (object_id, run_id)").format(Identifier(table)))
    work.rows_in, work.rows_out = total.rows + total.rejected, total.rows
    work.detail |= {"objects": total.objects, "rejected_lines": total.rejected, "erased_lines": total.erased}


def new_batches(cursor: Cursor, lake: Lake, sources: list[Source]) -> tuple[list[Batch], list[str]]:
    """Batches of objects not taken in yet, the largest first; and the keys that are not read."""
    batches, foreign = [], []
    for source in sources:
        listed = []
        for found in lake.list(source.prefix):
            if found.key.lower().endswith(ENDINGS):
                listed.append(found)
            elif not found.key.endswith("/"):
                foreign.append(found.key)
        if not listed:
            continue
        run_file(cursor, HERE / "pending_objects.sql", _arrays(listed))
        group = Batch(source, [])
        for (position,) in cursor.fetchall():
            found = listed[position]
            if group.objects and (
                group.size + found.size > BATCH_BYTES or len(group.objects) >= BATCH_OBJECTS
            ):
                batches.append(group)
                group = Batch(source, [])
            group.objects.append(found)
        if group.objects:
            batches.append(group)
    return sorted(batches, key=lambda batch: -batch.size), foreign


def _arrays(objects: list[LakeObject]) -> dict[str, list]:
    return {
        "keys": [found.key for found in objects],
        "etags": [found.etag for found in objects],
        "sizes": [found.size for found in objects],
        "times": [found.last_modified for found in objects],
    }


# -- one batch ---------------------------------------------------------------------------------------------


def take_in(cursor: Cursor, lake: Lake, batch: Batch, run_id: int) -> Iterator[Step]:
    """Take in the objects of a batch, in one transaction; the counts come when it is committed."""
    source = batch.source
    run_file(
        cursor,
        HERE / "claim_objects.sql",
        {"source": source.name, "run_id": run_id, **_arrays(batch.objects)},
    )
    claimed = dict(cursor.fetchall())
    reader = Reader(source, run_id, erased_records(cursor, source))
    rows, rejected, erased = Counter(), Counter(), 0
    for size, parts in _read(lake, reader, batch, claimed):
        for part in parts:
            rows[part.object_id] += len(part.chunk.rows)
            rejected[part.object_id] += len(part.chunk.rejected)
            erased += sum(line.reason == ERASED for line in part.chunk.rejected)
        for object_id in _store(cursor, source, run_id, parts):
            rows[object_id] -= 1
            rejected[object_id] += 1
        yield size, None
    ids = list(claimed.values())
    run_file(
        cursor,
        HERE / "count_objects.sql",
        {"ids": ids, "rows": [rows[i] for i in ids], "rejected": [rejected[i] for i in ids]},
    )
    run_file(cursor, HERE / "advance_watermark.sql", {"upstream": source.prefix, "run_id": run_id})
    cursor.connection.commit()
    yield 0, Counts(len(ids), rows.total(), rejected.total(), erased, {source.raw_table: rows.total()})


def _read(
    lake: Lake, reader: Reader, batch: Batch, claimed: dict[str, int]
) -> Iterator[tuple[int, list[Part]]]:
    """The claimed objects as lists of parts, COPY_BYTES each: small objects share one, large ones fill many.

    Beside each list, how many bytes of the lake were read for it.
    """
    size, held, parts = 0, 0, []
    for found in batch.objects:
        if found.key not in claimed:
            continue
        read = 0
        with lake.open(found.key) as stream:
            if (etag := (stream.headers.get("ETag") or found.etag).strip('"')) != found.etag:
                raise MdmError(
                    f"{found.key} was replaced while it was being read (ETag {found.etag}, then {etag}). "
                    "Run again."
                )
            for chunk in reader.read(stream, found.key, claimed[found.key], found.last_modified):
                parts.append(Part(claimed[found.key], found.key, chunk))
                held += chunk.size
                if held >= COPY_BYTES:
                    yield size + stream.tell() - read, parts
                    size, held, parts, read = 0, 0, [], stream.tell()
        size += found.size - read
    yield size, parts


def erased_records(cursor: Cursor, source: Source) -> Callable[[str], bool] | None:
    """Whether a record id of the source belongs to an erased record; None where nobody was erased.

    What is kept of an erased record is HMAC-SHA256 (RFC 2104) of source and id under the database's secret.
    """
    cursor.execute("select erased_hash from raw.erased_records")
    hashes = {bytes(row[0]) for row in cursor}
    if not hashes:
        return None
    import hmac

    cursor.execute("select secret from raw.erasure_secret")
    secret = bytes(cursor.fetchone()[0])
    return lambda record_id: hmac.digest(secret, f"{source.name}\x1f{record_id}".encode(), "sha256") in hashes


def _store(cursor: Cursor, source: Source, run_id: int, parts: list[Part]) -> list[int]:
    """COPY rows and rejected lines; returns the object_id of each row that had to be rejected after all."""
    keys = {part.object_id: part.object_key for part in parts}
    refused = copy_lines(cursor, source, [part.chunk for part in parts])
    rejected = [(part.object_id, line) for part in parts for line in part.chunk.rejected] + refused
    rows = [
        DELIMITER.join(
            (
                source.name,
                str(object_id),
                copied(keys[object_id]),
                str(line.line_number),
                copied(line.reason),
                copied(line.text),
                str(run_id),
            )
        ).encode()
        for object_id, line in rejected
    ]
    _copy(cursor, "rejected_records", REJECTED_COLUMNS, rows)
    return [object_id for object_id, _ in refused]


def copy_lines(cursor: Cursor, source: Source, chunks: list[Chunk]) -> list[tuple[int, Rejected]]:
    """COPY the rows of chunks; returns (object_id, line) of those PostgreSQL does not take."""
    rows = [row for chunk in chunks for row in chunk.rows]
    if _copy(cursor, source.raw_table, COLUMNS, rows) == len(rows):
        return []
    rows = [row.split(DELIMITER.encode(), len(COLUMNS) - 1) for row in rows]
    cursor.execute(
        SQL("select object_id, line_number from raw.{} where object_id = any(%s)").format(
            Identifier(source.raw_table)
        ),
        (list({int(row[0]) for row in rows}),),
    )
    there = set(cursor.fetchall())
    return [
        (
            int(row[0]),
            Rejected(int(row[2]), "PostgreSQL does not read it", row[-1].decode().replace("\\\\", "\\")),
        )
        for row in rows
        if (int(row[0]), int(row[2])) not in there
    ]


def _copy(cursor: Cursor, table: str, columns: tuple[str, ...], rows: list[bytes]) -> int:
    """COPY rows into a table of schema raw, leaving out what it does not read; returns how many it took."""
    if not rows:
        return 0
    statement = SQL("copy raw.{} ({}) from stdin (delimiter {}, on_error ignore)").format(
        Identifier(table), SQL(", ").join(map(Identifier, columns)), Literal(DELIMITER)
    )
    cursor.copy_expert(statement, io.BytesIO(b"\n".join(rows)), size=COPY_BYTES)
    return cursor.rowcount


# -- who does it -------------------------------------------------------------------------------------------


@contextmanager
def _here(work: Phase, lake: Lake, batches: list[Batch]) -> Iterator[Iterator[Step]]:
    """One batch after the other, in this process."""
    with connect() as connection, connection.cursor() as cursor:
        yield (step for batch in batches for step in take_in(cursor, lake, batch, work.run_id))


@contextmanager
def _in_processes(work: Phase, lake: Lake, batches: list[Batch]) -> Iterator[Iterator[Step]]:
    """Batches over as many processes as there are cores; none of them outlives the block or this process."""
    context = multiprocessing.get_context("fork")
    workers = {}
    try:
        for _ in range(min(len(os.sched_getaffinity(0)), MOST_WORKERS, len(batches))):
            ours, theirs = context.Pipe()
            worker = context.Process(target=_work, args=(theirs, work.connection.fileno(), work.run_id))
            worker.start()
            theirs.close()
            workers[ours] = worker
        yield _steps(workers, batches)
    finally:
        for worker in workers.values():
            worker.terminate()
        for worker in workers.values():
            worker.join()


def _steps(workers: dict[Connection, Process], batches: list[Batch]) -> Iterator[Step]:
    """Hand each process the next batch as soon as it is done with one."""
    waiting, busy = iter(batches), set(workers)
    try:
        for pipe in workers:
            pipe.send(next(waiting))
        while busy:
            for pipe in wait(busy):
                step = pipe.recv()
                if isinstance(step, BaseException):
                    raise step
                yield step
                if step[1] is None:
                    continue
                if (batch := next(waiting, None)) is None:
                    busy.remove(pipe)
                else:
                    pipe.send(batch)
    except (EOFError, BrokenPipeError, ConnectionResetError):
        workers[pipe].join()
        raise MdmError(
            f"A process that reads objects ended by itself (exit code {workers[pipe].exitcode}); the machine "
            "may be out of memory. What is committed stays; run again."
        ) from None


def _work(pipe: Connection, phase_socket: int, run_id: int) -> None:
    """A process of its own: takes batches from the pipe and sends its steps, or the error that ends it."""
    # Ctrl-C is for the process that started this one, which ends it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    # Held here, the phase's connection would keep its lock after the death of its owner.
    os.dup2(os.open(os.devnull, os.O_RDWR), phase_socket)
    try:
        lake = Lake.from_settings()
        with connect() as connection, connection.cursor() as cursor:
            while True:
                for step in take_in(cursor, lake, pipe.recv(), run_id):
                    pipe.send(step)
    except MdmError as error:
        pipe.send(error)
    except Exception:
        pipe.send(RuntimeError(traceback.format_exc()))


def _end_with_parent() -> None:
    multiprocessing.parent_process().join()
    os._exit(1)


if __name__ == "__main__":
    run_script(main)
