"""The summary of a run, as a person reads it: what came in, what became of it, what waits, how long it took.

Reads receipts and metrics only, so it costs nothing. Without MDM_RUN_ID it is the last run's.

Usage: python gold/run_summary.py
"""

import argparse
import os
import sys
from pathlib import Path

from psycopg2.extras import RealDictCursor

from db.errors import run_script
from db.postgres import connect, run_file
from db.settings import settings

HERE = Path(__file__).resolve().parent
BOLD, DIM, YELLOW, GREEN, RESET = "\x1b[1m", "\x1b[2m", "\x1b[33m", "\x1b[32m", "\x1b[0m"
LABEL, NUMBER = 16, 11
BAR = 24


def main(argv: list[str] | None = None) -> int:
    """Print the summary."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.parse_args(argv)
    if settings.mdm_quiet:
        return 0
    with connect() as connection, connection.cursor(cursor_factory=RealDictCursor) as cursor:
        run_id = settings.mdm_run_id
        if not run_id:
            cursor.execute("select coalesce(max(run_id), 0) as run_id from gold.pipeline_phases")
            run_id = cursor.fetchone()["run_id"]
        run_file(cursor, HERE / "run_summary.sql", {"run_id": run_id})
        summary = cursor.fetchone()
    if summary is None:
        print("No run yet. Start one: ./run_mdm_pipeline.sh")
        return 0
    coloured = sys.stdout.isatty() and "NO_COLOR" not in os.environ and os.environ.get("TERM") != "dumb"
    print("\n".join(lines(summary, coloured)))
    return 0


def lines(summary: dict, coloured: bool = False) -> list[str]:
    """The summary as lines of at most 80 columns.

    summary: the row of run_summary.sql.
    """

    def paint(colour: str, text: str) -> str:
        return f"{colour}{text}{RESET}" if coloured else text

    def row(label: str, number: int | None, note: str = "", more: bool = False) -> str:
        shown = "-" if number is None else f"{number:,}{'+' if more else ''}"
        return f"  {label:<{LABEL}}{paint(BOLD, f'{shown:>{NUMBER}}')}  {paint(DIM, _fitted(note))}"

    s = summary
    head = f"Run {s['run_id']}"
    if s["status"] == "failed":
        head += ", failed"
    rule = paint(DIM, "─" * 80 if _can_draw() else "-" * 80)
    out = [
        "",
        rule,
        f"{paint(BOLD, head)}  {s['started_at']:%Y-%m-%d %H:%M} UTC, {_seconds(s['seconds'])}",
        rule,
        row("records in", s["records_in"], _listed(s["records_by_source"])),
        row("quarantined", s["quarantined"], "see raw.rejected_records" if s["quarantined"] else ""),
        row("pairs compared", s["pairs"], _listed(s["decisions"])),
        row(
            "customers",
            s["customers"],
            ", ".join(
                f"{s[key] or 0:,} {name}"
                for key, name in (
                    ("new_customers", "new"),
                    ("changed_customers", "changed"),
                    ("merged_customers", "merged"),
                    ("closed_customers", "closed"),
                )
            ),
        ),
        row("conflicts", s["conflicts"], _listed(_by_attribute(s["conflicts_by_kind"]))),
        row(
            "review queue",
            s["review_items"],
            _listed(s["review_by_kind"], s["review_capped"]),
            more=bool(s["review_capped"]),
        ),
    ]
    for warning in s["warnings"] or []:
        out.append("  " + paint(YELLOW, f"warning: {_warning(warning)}"))
    if s["more_warnings"]:
        out.append("  " + paint(YELLOW, f"         and {s['more_warnings']} more in gold.metric_warnings"))
    out += ["", *_phase_lines(s["phases"] or [], paint)]
    return [line.rstrip() for line in out]


def _phase_lines(phases: list[dict], paint) -> list[str]:
    longest = max((phase["seconds"] for phase in phases), default=0) or 1
    block = "█" if _can_draw() else "#"
    out = []
    for phase in phases:
        bar = block * max(1, round(BAR * phase["seconds"] / longest)) if not phase["skipped"] else ""
        note = "failed" if phase["status"] == "failed" else "skipped" if phase["skipped"] else ""
        out.append(
            f"  {phase['phase']:>3}  {phase['script'].removeprefix('run_').replace('_', ' '):<22.22}"
            f"{phase['seconds']:>9.2f} s  {paint(GREEN, f'{bar:<{BAR}}')} {note}"
        )
    return out


def _fitted(note: str) -> str:
    """The note, its last parts left out where it would not fit on the line."""
    room = 80 - LABEL - NUMBER - 4
    if len(note) <= room:
        return note
    return note[: room - 5].rpartition(", ")[0] + ", ..."


def _can_draw() -> bool:
    return (sys.stdout.encoding or "").lower().startswith("utf")


def _listed(counts: dict | None, capped: list[str] | None = None) -> str:
    """{'flagged_pair': 200} as '200 flagged pair', the largest first; '200+', where there may be more."""
    ranked = sorted((counts or {}).items(), key=lambda pair: (-pair[1], pair[0]))
    return ", ".join(
        f"{count:,}{'+' if name in (capped or []) else ''} {name.replace('_', ' ').lower()}"
        for name, count in ranked
    )


def _by_attribute(kinds: dict | None) -> dict:
    return {kind.partition("_")[2]: count for kind, count in (kinds or {}).items()}


def _warning(warning: dict) -> str:
    name = f"{warning['metric'].replace('_', ' ')} of {warning['subject']}"
    return f"{name} is {_share(warning['value'])}, usually {_share(warning['usual'])}"


def _share(share: float) -> str:
    return f"{share:.1%}" if share >= 0.01 or share == 0 else f"{share * 100:.2g}%"


def _seconds(seconds: float | None) -> str:
    if seconds is None:
        return "still running"
    return f"{seconds:.1f} s" if seconds < 100 else f"{seconds // 60:.0f} min {seconds % 60:.0f} s"


if __name__ == "__main__":
    run_script(main)
