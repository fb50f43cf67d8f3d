"""Peak memory of reading large objects: it must not grow with the object, the line, or what gzip hides.

Usage: python tests/benchmarks/ingestion_memory.py
"""

import gzip
import io
import resource
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from multiprocessing import get_context
from typing import BinaryIO

from db.settings import PROJECT
from ingestion.readers import Reader
from ingestion.sources import read_sources

MEGABYTE = 1_000_000
LINE = (
    b'{"order_id":"O1","event_ts":"2026-01-02T03:04:05Z","customer_name":"Jane Example","zip_code":"94105"}\n'
)
OBJECTS: dict[str, tuple[str, Callable[[BinaryIO], object]]] = {
    "one line": ("a.jsonl", lambda file: file.write(LINE)),
    "300 MB of lines": ("a.jsonl", lambda file: [file.write(LINE * 10_000) for _ in range(300)]),
    "300 MB of zeros, sparse": ("a.jsonl", lambda file: file.truncate(300 * MEGABYTE)),
    "300 MB of one quote": (
        "a.csv",
        lambda file: [file.write(b'order_id,x\n1,"')] + [file.write(b"x" * MEGABYTE) for _ in range(300)],
    ),
    "8 MB of bad lines": ("a.jsonl", lambda file: file.write(b"bad\n" * 2 * MEGABYTE)),
    "1 GB of zeros in 1 MB of gzip": (
        "a.jsonl.gz",
        lambda file: file.write(gzip.compress(bytes(10 * MEGABYTE), 9) * 100),
    ),
}


def measure(title: str, key: str, path: str) -> None:
    """Read the object in a process of its own and say what it took."""
    reader = Reader(read_sources(PROJECT / "ingestion" / "sources.toml")[0], 1)
    started, rows, rejected = time.perf_counter(), 0, 0
    with open(path, "rb") as file:
        for chunk in reader.read(io.BufferedReader(file.raw), key, 1, datetime.now(UTC)):
            rows += len(chunk.rows)
            rejected += len(chunk.rejected)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    seconds = time.perf_counter() - started
    print(f"{title:26} {rows:>10,} rows {rejected:>11,} rejected {seconds:6.1f} s {peak:6.0f} MiB peak")


def main() -> None:
    """One line per kind of object."""
    context = get_context("spawn")
    for title, (key, fill) in OBJECTS.items():
        with tempfile.NamedTemporaryFile() as file:
            fill(file)
            file.flush()
            process = context.Process(target=measure, args=(title, key, file.name))
            process.start()
            process.join()


if __name__ == "__main__":
    main()
