"""From a day's plan to objects in the lake, the truth beside them, and what is remembered for the next day.

    sales/dt=2026-01-02/hr=09/part-00000.jsonl              an hour's records, at most OBJECT_LINES
    sales/dt=2026-01-01/hr=17/part-late-2026-01-02.jsonl    records of the day before that came in late
    _truth/sales/dt=2026-01-02/records.csv.gz               source_system, record_id, person_id
    _truth/sales/dt=2026-01-02/withdrawn.csv.gz             source_system, record_id
    _truth/sales/days.json                                  the plans of the days so far

A day has exactly as many new records as asked for, late ones among them. On top of them come its corrections
(a record of this day or of the last seven, delivered again with a newer time), withdrawals and broken lines.
The same arguments over the same earlier days give the same bytes, so a day cut short is simply run again; the
sources that have it are left out.
Memory holds a few batches of records, the activity of the population (8 bytes a person and source) and the
compressed truth of the day (some 13 bytes a record).
"""

import argparse
import gzip
import io
import json
import sys
from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, astuple, dataclass, field
from datetime import date, timedelta
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
import polars as pl
from tqdm import tqdm

from db.errors import ConfigurationError, MdmError, run_script
from db.settings import settings
from producers.draws import below, chance, hashes, uniform
from producers.noise import broken_line
from producers.population import person_ids
from producers.records import (
    BROKEN_RATE,
    CORRECTION_RATE,
    FIRST_DAY,
    HOURS,
    MILLISECONDS,
    NEW_PEOPLE_RATE,
    PEOPLE_RATE,
    REACH_DAYS,
    SAME_DAY_HOUR,
    SAME_DAY_RATE,
    WITHDRAWAL_RATE,
    DayPlan,
    Source,
    bodies,
    events,
    hour_bounds,
    persons,
    record_ids,
    times,
    timestamps,
)

OBJECT_LINES = 50_000
BATCH_RECORDS = 50_000
DEFAULT_RECORDS = 3000
DEFAULT_SEED = 42
DEFAULT_SPREAD = 0.75
UPLOADS = 4
LONG_DAY = 100_000  # records from which on a terminal sees progress


class Store(Protocol):
    """What the producers ask of the lake."""

    def put(self, key: str, data: bytes) -> None: ...
    def get(self, key: str) -> bytes: ...
    def exists(self, key: str) -> bool: ...


@dataclass(frozen=True)
class Folder:
    """A local folder in place of the lake: the keys are its paths."""

    root: Path

    def put(self, key: str, data: bytes) -> None:
        path = self.root / key
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        except OSError as error:
            raise MdmError(
                f"{path} cannot be written: {error.strerror}. Mend it, or name another folder."
            ) from error

    def get(self, key: str) -> bytes:
        return (self.root / key).read_bytes()

    def exists(self, key: str) -> bool:
        return (self.root / key).is_file()


@dataclass
class Delivered:
    """What a source delivered."""

    records: int = 0
    corrections: int = 0
    withdrawals: int = 0
    broken: int = 0
    objects: int = 0

    def __add__(self, other: "Delivered") -> "Delivered":
        return Delivered(*(a + b for a, b in zip(astuple(self), astuple(other), strict=True)))


class Piece(NamedTuple):
    """An object of new records: the hour, its number in it, first serial number, one past the last."""

    hour: int
    part: int
    start: int
    stop: int
    is_last: bool  # of its hour


@dataclass
class Day:
    """One source's day in the making: its plan, the plans it may look back to, and what it has made."""

    source: Source
    plan: DayPlan
    earlier: list[DayPlan]
    delivered: Delivered = field(default_factory=Delivered)
    truth: io.BytesIO = field(default_factory=io.BytesIO)

    def __post_init__(self):
        self._bounds = hour_bounds(self.plan)

    def objects(self) -> Iterator[tuple[str, bytes]]:
        """(key, content) of every object of the day, the truth last."""
        additions, withdrawn = self._additions()
        late: list[pl.DataFrame] = []
        with gzip.GzipFile(fileobj=self.truth, mode="wb", compresslevel=1, mtime=0) as truth:
            truth.write(b"source_system,record_id,person_id\n")
            for pieces in self._batches():
                serial = np.arange(pieces[0].start, pieces[-1].stop)
                frame = self._records(serial, truth)
                late.append(frame.filter("late"))
                for hour, part, start, stop, is_last in pieces:
                    rows = frame.slice(start - pieces[0].start, stop - start).filter(~pl.col("late"))
                    data = _lines(rows.drop("late", "hour"))
                    if is_last:
                        data = self._with_broken(data, hour) + additions.get(hour, b"")
                    if data:
                        yield self._counted(
                            f"{self._prefix(self.plan.date, hour)}/part-{part:05d}.jsonl", data
                        )
        stuck = pl.concat(late)
        for (hour,), rows in sorted(stuck.group_by("hour", maintain_order=True)):
            key = f"{self._prefix(self.earlier[-1].date, hour)}/part-late-{self.plan.date}.jsonl"
            yield self._counted(key, _lines(rows.drop("late", "hour")))
        folder = f"_truth/{self.source.name}/dt={self.plan.date}"
        yield f"{folder}/records.csv.gz", self.truth.getvalue()
        listing = pl.DataFrame({"source_system": pl.repeat(self.source.name, len(withdrawn), eager=True)})
        csv = listing.with_columns(record_id=withdrawn).write_csv().encode()
        yield f"{folder}/withdrawn.csv.gz", gzip.compress(csv, 1, mtime=0)

    @property
    def _has_eve(self) -> bool:
        """Whether the day before is there, for late records to belong to."""
        return bool(self.earlier) and self.earlier[-1].day == self.plan.day - 1

    def _prefix(self, day: date, hour: int) -> str:
        return f"{self.source.name}/dt={day}/hr={hour:02d}"

    def _counted(self, key: str, data: bytes) -> tuple[str, bytes]:
        self.delivered.objects += 1
        return key, data

    def _batches(self) -> Iterator[list[Piece]]:
        """The day's objects, in groups worth a batch."""
        group: list[Piece] = []
        for hour in range(HOURS):
            first, end = int(self._bounds[hour]), int(self._bounds[hour + 1])
            for part, start in enumerate(range(first, max(end, first + 1), OBJECT_LINES)):
                stop = min(start + OBJECT_LINES, end)
                group.append(Piece(hour, part, start, stop, stop == end))
                if stop - group[0].start >= BATCH_RECORDS:
                    yield group
                    group = []
        if group:
            yield group

    def _share(self) -> float:
        given = self.plan.junk_phone_share
        return self.source.junk_phone_share if given is None else given

    def _records(self, serial: np.ndarray, truth: gzip.GzipFile) -> pl.DataFrame:
        """The lines of new records, with `late` and the `hour` of their partition; writes their truth."""
        plan, source = self.plan, self.source
        person = persons(plan, source, serial)
        event = events(plan, source, serial)
        moment, late = times(plan, source, serial, self._has_eve)
        seed, day = np.full(serial.shape, plan.seed, np.uint64), np.full(serial.shape, plan.day)
        ids = record_ids(plan, source, serial)
        whose = pl.DataFrame({"record": ids, "person": person_ids(plan.seed, person)})
        whose = whose.select(pl.lit(source.name), "record", "person")
        truth.write(whose.write_csv(include_header=False).encode())
        self.delivered.records += len(serial)
        body = bodies(source, seed, person, day, event, event, self._share())
        return _with_id_and_time(source, ids, moment, body).with_columns(
            late=late, hour=moment // MILLISECONDS % HOURS
        )

    def _targets(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Records to correct or withdraw: the index of their plan (this one is last), serial number, key."""
        plan, source = self.plan, self.source
        plans = [*self.earlier, plan]
        wanted = int(np.rint(plan.records * (CORRECTION_RATE + WITHDRAWAL_RATE)))
        key = hashes(plan.seed, "target", hashes(0, source.name), plan.day, np.arange(wanted))
        which = below(len(self.earlier), key, "target day") if self.earlier else np.zeros(wanted, np.int64)
        if self.earlier:
            which = np.where(chance(SAME_DAY_RATE, key, "same day"), len(self.earlier), which)
        eligible = np.array([*(p.records for p in self.earlier), self._bounds[SAME_DAY_HOUR]])
        serial = below(eligible[which], key, "target serial")
        there = eligible[which] > 0
        which, serial, key = which[there], serial[there], key[there]
        _, first = np.unique(which * (max(p.records for p in plans) + 1) + serial, return_index=True)
        first = np.sort(first)
        return which[first], serial[first], key[first]

    def _additions(self) -> tuple[dict[int, bytes], pl.Series]:
        """Corrections and withdrawals as lines per hour; the ids of the withdrawn."""
        source, plans = self.source, [*self.earlier, self.plan]
        which, serial, key = self._targets()
        if not len(which):
            return {}, pl.Series([], dtype=pl.String)
        person, event = np.zeros(len(which), np.int64), np.zeros(len(which), np.uint64)
        ids = pl.Series([""] * len(which))
        for number, plan in enumerate(plans):
            rows = np.flatnonzero(which == number)
            if len(rows):
                person[rows] = persons(plan, source, serial[rows])
                event[rows] = events(plan, source, serial[rows])
                ids = ids.scatter(rows, record_ids(plan, source, serial[rows]))
        from_hour = np.where(which == len(self.earlier), SAME_DAY_HOUR, 0)
        hour = from_hour + below(HOURS - from_hour, key, "hour of correction")
        moment = (self.plan.day * HOURS + hour) * MILLISECONDS + below(
            MILLISECONDS, key, "minute of correction"
        )
        withdrawn = uniform(key, "withdrawn") < WITHDRAWAL_RATE / (CORRECTION_RATE + WITHDRAWAL_RATE)

        seed = np.array([plan.seed for plan in plans], dtype=np.uint64)[which]
        day = np.full(len(which), self.plan.day)
        body = bodies(source, seed, person, day, event, key, self._share())
        frame = _with_id_and_time(source, ids, moment, body)
        deleted = frame.select(source.id_field, "event_ts").with_columns(_deleted=True)
        self.delivered.withdrawals += int(withdrawn.sum())
        self.delivered.corrections += int((~withdrawn).sum())
        order = np.argsort(moment, kind="stable")
        lines = {}
        for at in np.unique(hour).tolist():
            rows = order[hour[order] == at]
            lines[at] = _lines(frame[rows[~withdrawn[rows]]]) + _lines(deleted[rows[withdrawn[rows]]])
        return lines, ids.gather(np.flatnonzero(withdrawn))

    def _with_broken(self, data: bytes, hour: int) -> bytes:
        """The object's lines with the hour's share of broken ones among them."""
        wanted = max(1, round(self.plan.records * BROKEN_RATE))
        number = hashes(
            self.plan.seed, "broken", hashes(0, self.source.name), self.plan.day, np.arange(wanted)
        )
        # Each falls into the hour of a record drawn at random, so an hour without records has none.
        drawn = np.searchsorted(self._bounds, below(self.plan.records, number, "broken at"), side="right") - 1
        numbers = number[drawn == hour].tolist()
        if not numbers or not data:
            return data
        lines = data.splitlines(keepends=True)
        spoiled = list(lines)
        for value in numbers:
            at = value % len(lines)
            line = broken_line(value, lines[at], self.source.id_field, self.source.email_field)
            spoiled[at] += line + b"\n"
        self.delivered.broken += len(numbers)
        return b"".join(spoiled)


def _with_id_and_time(source: Source, ids: pl.Series, moment: np.ndarray, body: pl.DataFrame) -> pl.DataFrame:
    head = pl.DataFrame({source.id_field: ids, "event_ts": timestamps(moment)})
    return head.hstack(body)


def _lines(frame: pl.DataFrame) -> bytes:
    if frame.is_empty():
        return b""
    target = io.BytesIO()
    frame.write_ndjson(target)
    return target.getvalue()


def _days_key(source: Source) -> str:
    return f"_truth/{source.name}/days.json"


def days_so_far(store: Store, source: Source) -> list[DayPlan]:
    """The plans of the days a source has delivered, in order of the days."""
    key = _days_key(source)
    if not store.exists(key):
        return []
    try:
        return sorted((DayPlan(**plan) for plan in json.loads(store.get(key))), key=lambda plan: plan.day)
    except (ValueError, TypeError) as error:
        raise MdmError(f"{key} in the lake cannot be read: {error}. Delete it to begin anew.") from error


def produce_day(store: Store, source: Source, plan: DayPlan, known: list[DayPlan]) -> Delivered:
    """Put one source's day into the store, and remember it there when all of it is in.

    `known` are the source's days so far. Objects are made a few ahead of the uploads, so memory does not grow
    with the day.
    """
    day = Day(source, plan, [other for other in known if other.day < plan.day][-REACH_DAYS:])
    quiet = settings.mdm_quiet or not sys.stderr.isatty() or plan.records < LONG_DAY
    bar = tqdm(
        total=plan.records,
        unit="records",
        unit_scale=True,
        desc=f"  {source.name}",
        disable=quiet,
        leave=False,
    )
    with bar, ThreadPoolExecutor(UPLOADS) as uploads:
        under_way = deque()
        for key, data in day.objects():
            under_way.append(uploads.submit(store.put, key, data))
            if len(under_way) > 2 * UPLOADS:
                under_way.popleft().result()
            bar.update(day.delivered.records - bar.n)
        for upload in under_way:
            upload.result()
    days = [asdict(other) for other in known if other.day != plan.day] + [asdict(plan)]
    store.put(_days_key(source), json.dumps(days, indent=1).encode())
    return day.delivered


def plan_day(arguments: argparse.Namespace, day: int, known: list[DayPlan]) -> DayPlan:
    """The plan of a day: what the arguments say, else as on the day before, else the defaults."""
    last = max((plan for plan in known if plan.day < day), key=lambda plan: plan.day, default=None)
    population = round(PEOPLE_RATE * arguments.records)
    if last:
        population = last.population + round(NEW_PEOPLE_RATE * arguments.records)
    given = {name: getattr(arguments, name) for name in ("seed", "population", "activity_spread")}
    inherited = {
        "seed": last.seed if last else DEFAULT_SEED,
        "population": population,
        "activity_spread": last.activity_spread if last else DEFAULT_SPREAD,
    }
    return DayPlan(
        day=day,
        records=arguments.records,
        junk_phone_share=arguments.junk_phone_share,
        **{name: inherited[name] if value is None else value for name, value in given.items()},
    )


def asked_days(store: Store, sources: list[Source], arguments: argparse.Namespace) -> range:
    """The days to deliver: from --day on, else from the last in the store that a source lacks, or the next."""
    if arguments.day is not None:
        first = (arguments.day - FIRST_DAY).days
    else:
        days = [{plan.day for plan in days_so_far(store, source)} for source in sources]
        last = max(set().union(*days), default=0)
        first = last if any(last not in there for there in days) else last + 1
    return range(first, first + arguments.days)


def produce(
    store: Store, sources: list[Source], days: range, arguments: argparse.Namespace
) -> dict[str, dict[str, int]]:
    """Deliver the days (since FIRST_DAY) of the sources.

    A source that has a day already does not deliver it again, unless --day asks for it.
    Returns {source: {records, corrections, withdrawals, broken, objects}}.
    """
    totals = {source.name: Delivered() for source in sources}
    for day in days:
        known = {source.name: days_so_far(store, source) for source in sources}
        begun = {}
        if arguments.day is None:
            begun = {name: plan for name, plans in known.items() for plan in plans if plan.day == day}
        # The rest of a day that was cut short comes as it was planned then, of the same people.
        planned = next(iter(begun.values()), None)
        for source in sources:
            if source.name not in begun:
                so_far = known[source.name]
                plan = planned or plan_day(arguments, day, so_far)
                totals[source.name] += produce_day(store, source, plan, so_far)
    return {name: asdict(total) for name, total in totals.items()}


def _day(text: str) -> date:
    try:
        day = date.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a day; write it like {FIRST_DAY}") from None
    if day < FIRST_DAY:
        raise argparse.ArgumentTypeError(f"{text} is before the first simulated day, {FIRST_DAY}")
    return day


def _whole(least: int, most: int):
    def parse(text: str) -> int:
        if not text.isdecimal() or not least <= int(text) <= most:
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from {least:,} to {most:,}")
        return int(text)

    return parse


def _number(least: float, most: float):
    def parse(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = float("nan")
        if not least <= value <= most:
            raise argparse.ArgumentTypeError(f"{text!r} is not a number from {least:g} to {most:g}")
        return value

    return parse


def parser(description: str) -> argparse.ArgumentParser:
    """The command line shared by all producers."""
    made = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = made.add_argument
    add(
        "--records",
        type=_whole(1, 99_999_999),
        default=DEFAULT_RECORDS,
        metavar="N",
        help=f"new records per source and day (default {DEFAULT_RECORDS})",
    )
    add(
        "--seed",
        type=_whole(0, 2**63 - 1),
        metavar="N",
        help=f"another seed is another population (default: as on the day before, else {DEFAULT_SEED})",
    )
    add(
        "--day",
        type=_day,
        metavar="YYYY-MM-DD",
        help=f"the simulated day (default: what sources lack of the last day, else the next; the first is {FIRST_DAY})",
    )
    add("--days", type=_whole(1, 3650), default=1, metavar="N", help="how many days in a row (default 1)")
    add(
        "--population",
        type=_whole(1, 100_000_000),
        metavar="N",
        help="people behind the records (default: first as many as records, then some more each day)",
    )
    add(
        "--activity-spread",
        type=_number(0, 3),
        metavar="SIGMA",
        help=f"how unevenly people are active, 0: all alike (default {DEFAULT_SPREAD})",
    )
    add(
        "--junk-phone-share",
        type=_number(0, 1),
        metavar="SHARE",
        help="records of each source with the call centre's own number (default: some tickets and leads)",
    )
    add("--output-dir", type=Path, metavar="DIR", help="write below a local folder instead of the lake")
    return made


def store_of(arguments: argparse.Namespace) -> Store:
    """The lake, or the folder of --output-dir."""
    if arguments.output_dir is None:
        from db.lake import Lake

        return Lake.from_settings()
    if arguments.output_dir.exists() and not arguments.output_dir.is_dir():
        raise ConfigurationError(
            f"--output-dir {arguments.output_dir} is not a folder. Name one, or a new path."
        )
    return Folder(arguments.output_dir)


def report(days: range, summary: dict[str, dict[str, int]]) -> str:
    """The days, and a line per source."""
    first, last = FIRST_DAY + timedelta(days=days[0]), FIRST_DAY + timedelta(days=days[-1])
    lines = [f"  simulated day {first}" if len(days) == 1 else f"  simulated days {first} to {last}"]
    for name, counts in summary.items():
        lines.append(f"  {name}: " + ", ".join(f"{count:,} {what}" for what, count in counts.items()))
    return "\n".join(lines)


def run_as_script(sources: list[Source], description: str) -> None:
    """Sources on their own, from the command line."""

    def main() -> int:
        arguments = parser(description).parse_args()
        store = store_of(arguments)
        days = asked_days(store, sources, arguments)
        print(report(days, produce(store, sources, days, arguments)))
        return 0

    run_script(main)
