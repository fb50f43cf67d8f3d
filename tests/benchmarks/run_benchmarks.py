"""Benchmarks: the whole pipeline on stores of its own, measured phase by phase, as tables and as JSON.

Scenarios
  load                N records of the demo's producers, spread over the three sources, into a fresh database:
                      the first run, model training included; then the database's size
  delta               on top of it a further day of the producers: N/100 new records over the three sources,
                      of returning and new people, and that day's corrections and withdrawals
  empty               on top of that a run with nothing new
  thousand_customers  N records of N/1000 people, all alike active, in a fresh database; 5% of the records of
                      every source have the call centre's phone
  steward_day         ten days of the producers, 100,000 customers in the end, the laws checked after each; a run in
                      which nothing changed; then fifty decisions of a steward and a run of phases 6 to 10
  accuracy            100,000 records of the producers, and the labelled sets in ../shared/data where they are
                      there, by the shipped defaults: clusters against the truth, and calibration

N is the total over the three sources: each producer makes a third of it. Corrections, withdrawals and broken
lines come on top. Memory, processor time and bytes written are read from /proc, so this needs Linux.
"""

import argparse
import dataclasses
import json
import os
import platform
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from math import ceil
from pathlib import Path

import accuracy
import psutil
import steward_day
import tables
from measured_steps import Step, measure
from workspace import Workspace, workspace

HERE = Path(__file__).resolve().parent
SCENARIOS = ("load", "delta", "empty", "thousand_customers", "steward_day", "accuracy")
LINKING_PHASES = ("4.5", "5", "6")
SOURCES = 3
ACCURACY_RECORDS = 100_000
JUNK_PHONE_SHARE = 0.05


class Benchmarks:
    """The asked scenarios; `report` holds what they measured."""

    def __init__(self, arguments: argparse.Namespace):
        self.arguments = arguments
        self.asked = set(arguments.scenario)
        if self.asked & {"delta", "empty"} or arguments.against:
            self.asked.add("load")
        self.report: dict = {"machine": machine(), "records": arguments.records, "scenarios": {}}

    def run(self) -> None:
        """All of them."""
        show(", ".join(f"{name} {value}" for name, value in self.report["machine"].items()))
        if "load" in self.asked:
            self._load_and_change()
        if "thousand_customers" in self.asked:
            self._thousand_customers()
        if "steward_day" in self.asked:
            self._steward_day()
        if "accuracy" in self.asked:
            self._accuracy()
        scores = self.report.get("accuracy", [])
        if scores:
            show("## Accuracy", tables.accuracy_table(scores))
        for name, bins in self.report.get("calibration", {}).items():
            show(f"## Calibration, {name}", tables.calibration_table(bins))

    @contextmanager
    def _workspace(self, sources: Path | None = None) -> Iterator[Workspace]:
        flags = {
            "counts_statements": self.arguments.statements,
            "times_imports": self.arguments.imports,
        }
        with workspace(sources=sources, **flags) as made:
            yield made

    def _load_and_change(self) -> None:
        per_source = ceil(self.arguments.records / SOURCES)
        with self._workspace() as made:
            progress(made.produce("--records", str(per_source)))
            steps = self._measure("load", made, per_source * SOURCES)
            self._size(made)
            truth = accuracy.producers_truth(made)
            seconds = seconds_of(steps)
            self._score(f"producers, {per_source * SOURCES:,}", accuracy.customers(made), truth, seconds)
            self._link_otherwise(made, truth, [step for step in steps if step.name in LINKING_PHASES])
            if self.asked & {"delta", "empty"}:
                of_day = ceil(per_source / 100)
                progress(made.produce("--records", str(of_day)))
                self._measure("delta", made, of_day * SOURCES)
            if "empty" in self.asked:
                self._measure("empty", made, None)

    def _thousand_customers(self) -> None:
        per_source = ceil(self.arguments.records / SOURCES)
        people = max(per_source * SOURCES // 1000, 1)
        with self._workspace() as made:
            progress(
                made.produce(
                    *("--records", str(per_source), "--population", str(people)),
                    *("--activity-spread", "0", "--junk-phone-share", str(JUNK_PHONE_SHARE)),
                )
            )
            steps = self._measure("thousand_customers", made, per_source * SOURCES)
            self._score(
                f"{people:,} customers, {per_source * SOURCES:,}",
                accuracy.customers(made),
                accuracy.producers_truth(made),
                seconds_of(steps),
            )

    def _steward_day(self) -> None:
        with self._workspace() as made:
            days = steward_day.ten_days(made, progress)
            written = steward_day.tables_written(made, lambda: self._measure("unchanged", made, None))
            progress(f"tables written by the unchanged run: {', '.join(written) or 'none'}")
            steward_day.merge_the_evening_before(made)
            queue, reading = steward_day.review_queue(made)
            progress(f"review queue read in {reading:.2f} s: {queue}")
            kinds, deciding = steward_day.decide(made)
            progress(f"{kinds.total()} decisions in {deciding:.2f} s: {dict(kinds)}")
            self._measure("steward_day", made, None, "--from", "6")
            steward_day.check_laws(made)
        self.report["steward_day"] = {
            "days": days,
            "written_by_unchanged_run": written,
            "review_queue": queue,
            "decisions": dict(kinds),
        }

    def _accuracy(self) -> None:
        for name, file in accuracy.LABELLED.items():
            path = accuracy.SHARED / "data" / name / file
            if not path.exists():
                progress(f"{path} is not there: left out")
                continue
            with self._workspace(sources=HERE / "labelled_sources.toml") as made:
                made.command("load", str(path), "--source", name)
                self._score_run(name, made, accuracy.labelled_truth(name))
        with self._workspace() as made:
            per_source = ceil(ACCURACY_RECORDS / SOURCES)
            progress(made.produce("--records", str(per_source)))
            self._score_run(f"producers, {per_source * SOURCES:,}", made, accuracy.producers_truth(made))

    def _measure(self, name: str, made: Workspace, records: int | None, *arguments: str) -> list[Step]:
        progress(f"{name}: running")
        steps = made.run(*arguments)
        self.report["scenarios"][name] = {
            "records": records,
            "seconds": seconds_of(steps),
            "load_average": os.getloadavg()[0],
            "steps": [dataclasses.asdict(step) for step in steps],
        }
        show(f"## {name}", tables.phases_table(steps, records))
        if self.arguments.imports:
            show(f"## {name}: imports", tables.imports_table(steps))
        if self.arguments.statements:
            show(f"## {name}: statements", tables.statements_table(steps))
        return steps

    def _score_run(self, name: str, made: Workspace, truth: dict[str, str]) -> None:
        progress(f"{name}: running")
        seconds = seconds_of(made.run())
        self._score(name, accuracy.customers(made), truth, seconds)
        self.report.setdefault("calibration", {})[name] = accuracy.calibration(made, truth)

    def _score(self, name: str, predicted: dict[str, str], truth: dict[str, str], seconds: float) -> None:
        scored = accuracy.score(name, predicted, truth, seconds)
        if scored:
            self.report.setdefault("accuracy", []).append(scored)

    def _size(self, made: Workspace) -> None:
        names = ("table_name", "heap_bytes", "index_bytes", "toast_bytes", "total_bytes")
        found = [
            dict(zip(names, row, strict=True)) for row in made.query((HERE / "database_size.sql").read_text())
        ]
        for table in found:
            ((table["row_count"],),) = made.query(f"select count(*) from {table['table_name']}")
        ((whole,),) = made.query("select pg_database_size(current_database())")
        self.report["database"] = {"bytes": whole, "tables": found}
        show("## Size of the database after the load", tables.size_table(found, whole))

    def _link_otherwise(self, made: Workspace, truth: dict[str, str], ours: list[Step]) -> None:
        linkings = []
        for other in self.arguments.against:
            progress(f"{other}: exporting the records, linking")
            records = made.export((HERE / f"{other}_records.sql").read_text(), made.home / "records.csv")
            clusters = made.home / "clusters.csv"
            log = made.home / "linking.log"
            steps = measure(
                [sys.executable, str(HERE / f"{other}_linking.py"), str(records), str(clusters)], log
            )
            timed = [step for step in steps if step.name not in ("start", "end")]
            seconds = sum(step.seconds for step in timed)
            (pairs,) = (int(line[6:]) for line in log.read_text().splitlines() if line.startswith("pairs "))
            ((count,),) = made.query("select count(*) from staging.identity_inputs where not is_deleted")
            linkings.append(
                {"name": other, "records": count, "pairs": pairs, "seconds": seconds, "steps": timed}
            )
            self._score(other, accuracy.splink_clusters(made, clusters), truth, seconds)
        if linkings:
            show("## Linking alone", tables.linking_table(linkings, ours))
            self.report["linking"] = {
                "seconds": sum(step.seconds for step in ours),
                "against": [
                    {**linking, "steps": [dataclasses.asdict(step) for step in linking["steps"]]}
                    for linking in linkings
                ],
            }


def seconds_of(steps: list[Step]) -> float:
    """Seconds of phases 2 to 10."""
    return sum(step.seconds for step in steps if step.name not in ("start", "end"))


def machine() -> dict[str, object]:
    """What it was measured on."""
    models = [
        line.partition(":")[2].strip()
        for line in Path("/proc/cpuinfo").read_text().splitlines()
        if line.startswith("model name")
    ]
    return {
        "processor": models[0] if models else platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(psutil.virtual_memory().total / 1024**3),
        "python": platform.python_version(),
        "load_average": round(os.getloadavg()[0], 2),
    }


def progress(text: str) -> None:
    """What is being done, beside the tables."""
    print(text.rstrip(), file=sys.stderr, flush=True)


def show(*parts: str) -> None:
    """A part of the report."""
    print(*parts, "", sep="\n\n", flush=True)


def main() -> int:
    """Run what is asked, print tables, write JSON."""
    parser = argparse.ArgumentParser(
        prog="run_benchmarks.sh", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--records", type=int, default=1_000_000, metavar="N", help="in total (default 1,000,000)")
    add(
        "--scenario",
        nargs="+",
        choices=SCENARIOS,
        default=SCENARIOS,
        metavar="NAME",
        help=f"some of {', '.join(SCENARIOS)} (default: all); delta and empty begin with load",
    )
    add(
        "--against",
        nargs="+",
        choices=["splink"],
        default=[],
        metavar="NAME",
        help="link the same cleaned records with splink too, in the same run",
    )
    add("--json", type=Path, metavar="FILE", help="write everything measured as JSON too")
    add("--imports", action="store_true", help="say what Python's imports cost; slows the run a little")
    add(
        "--statements",
        action="store_true",
        help="say which SQL statements take longest; slows the run a little",
    )
    arguments = parser.parse_args()
    if arguments.records < SOURCES:
        parser.error("--records must be at least 3, one per source")
    # Ended from outside, too, it stops its stores and clears up.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    benchmarks = Benchmarks(arguments)
    benchmarks.run()
    if arguments.json:
        arguments.json.write_text(json.dumps(benchmarks.report, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
