"""Phase 10: the quality report, one HTML file that needs nothing else.

Written when there are metrics it has not shown: to the lake as reports/run=NNNNNN/quality.html and
reports/latest.html, and to reports/latest.html in the project, where that can be written. It shows shares,
counts, ids and reasons; no value of a person is in it, so it may be passed on.

Usage: python gold/run_quality_report.py
"""

import argparse
import os
from contextlib import suppress
from pathlib import Path

from psycopg2.extras import RealDictCursor

from db.errors import run_script
from db.phase import Phase, phase
from db.settings import PROJECT

HERE = Path(__file__).resolve().parent
UPSTREAM = "gold.run_metrics"
LATEST = PROJECT / "reports" / "latest.html"


def main(argv: list[str] | None = None) -> int:
    """Run the phase."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--latest", type=Path, default=LATEST, metavar="FILE", help="the copy in the project")
    latest = parser.parse_args(argv).latest
    with phase("10", "run_quality_report") as work:
        write(work, latest)
    return 0


def write(work: Phase, latest: Path) -> None:
    """Write the report of the newest metrics, if they are new, to the lake and to the file `latest`."""
    work.cursor.execute("select coalesce(max(run_id), 0) from gold.run_metrics")
    (newest,) = work.cursor.fetchone()
    if newest <= work.mark(UPSTREAM):
        work.skip("no new metrics")
        return
    with work.connection.cursor(cursor_factory=RealDictCursor) as cursor:
        cursor.execute((HERE / "quality_report.sql").read_text(encoding="utf-8"))
        data = cursor.fetchone()
    # An unchanged run needs no lake and draws nothing.
    from db.lake import Lake
    from gold.quality_report import render

    page = render(data).encode()
    lake = Lake.from_settings()
    keys = f"reports/run={newest:06d}/quality.html", "reports/latest.html"
    for key in keys:
        lake.put(key, page, "text/html; charset=utf-8")
    partial = latest.with_suffix(f".{os.getpid()}")
    try:
        latest.parent.mkdir(parents=True, exist_ok=True)
        partial.write_bytes(page)
        partial.replace(latest)
    except OSError as error:
        # The lake has it: no run need fail for the copy.
        with suppress(OSError):
            partial.unlink(missing_ok=True)
        work.warn(
            f"{latest} cannot be written: {error.strerror}. The report of this run is in the lake, {keys[0]}."
        )
    work.rows_in, work.rows_out = len(data["metrics"]), 1
    work.detail["bytes"] = len(page)
    work.advance(UPSTREAM)


if __name__ == "__main__":
    run_script(main)
