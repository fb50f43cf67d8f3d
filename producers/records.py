"""Which records a source has on a simulated day, whose they are, and what stands in them.

A record is a function of (seed, day, source, serial number) and the size of the day, so a correction of an
earlier day's record can be written without reading that day back.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import date, timedelta
from functools import cache

import numpy as np
import polars as pl

from producers import noise
from producers.draws import below, chance, choice, hashes, uniform
from producers.population import (
    FIXED,
    MOBILE,
    PERSONAL,
    SECOND,
    SECOND_MOBILE,
    SHARED,
    SWITCHBOARD,
    WORK,
    People,
    people,
)

FIRST_DAY = date(2026, 1, 1)
HOURS = 24
MILLISECONDS = 3_600_000
# Events per hour of the day (UTC, most customers in America).
DAILY_CURVE = [5, 4, 3, 2, 2, 1, 1, 1, 2, 2, 3, 4, 6, 8, 9, 10, 10, 9, 9, 9, 8, 8, 7, 6]

# Life as the systems know it
STALE_RATE = 0.03  # entries that were typed long ago and not kept up
STALE_DAYS = 250  # how long ago, on average
OTHER_EMAIL_RATE = 0.012  # a second or work mailbox instead of the usual one
OTHER_PHONE_RATE = 0.02
SHARED_MAILBOX_USE = 0.6  # members of the household who use its mailbox
FIXED_LINE_USE = 0.5  # people who give the household's fixed line
SWITCHBOARD_USE = 0.08  # employed people who give their employer's number
LATE_RATE = 0.01  # new records that belong to the day before
CORRECTION_RATE = 0.01  # of a day's records: deliveries again of a record from the last days
WITHDRAWAL_RATE = 0.002
BROKEN_RATE = 1 / 5000
SAME_DAY_RATE = 0.3  # corrections and withdrawals of records of the same day
SAME_DAY_HOUR = 18  # and from which hour on they come
REACH_DAYS = 7  # how far back they reach
PEOPLE_RATE = 1.3  # people on the first day, per record of a source: about three records for each who shows
NEW_PEOPLE_RATE = 0.35  # people who join on each further day, per record of a source
# Share of people a source has to do with.
INTEREST = {"sales": 0.75, "support": 0.55, "marketing": 0.65}


@dataclass(frozen=True)
class DayPlan:
    """One simulated day of one source: all that its records depend on."""

    day: int  # days since FIRST_DAY
    seed: int
    records: int
    population: int
    activity_spread: float  # sigma of the log-normal number of records per person; 0: all the same
    junk_phone_share: float | None  # None: the source's own

    @property
    def date(self) -> date:
        return FIRST_DAY + timedelta(days=self.day)


@dataclass(frozen=True)
class Source:
    """A demo system. `compose` turns entries into the source's columns, except id and time."""

    name: str
    letter: str
    id_field: str
    email_field: str
    retyped_rate: float  # records typed anew, rather than taken from the customer's account
    junk_phone_share: float
    compose: Callable[["Entries"], pl.DataFrame] = field(repr=False)


@dataclass(frozen=True)
class Entries:
    """What was typed for a batch of records, one element per record."""

    people: People
    event: np.ndarray  # key of the record itself
    key: np.ndarray  # key of the typing: the record's, or that of the customer's account
    junk_phone_share: float

    def name(self) -> pl.Series:
        return noise.written_names(self.people.names(), self.key)

    def email(self) -> pl.Series:
        """The mailbox the person uses here, as typed."""
        seed, person, key = self.people.seed, self.people.person, self.key
        has_work, has_shared = self.people.can_use_mailbox()
        kind = np.full(person.shape, PERSONAL)
        kind[has_shared & chance(SHARED_MAILBOX_USE, seed, "uses the shared mailbox", person)] = SHARED
        other = chance(OTHER_EMAIL_RATE, key, "other mailbox")
        kind = np.where(other, np.where(has_work, WORK, SECOND), kind)
        return noise.written_emails(self.people.emails(kind), key)

    def phone(self, present: np.ndarray) -> pl.Series:
        """The number the person gives here, as typed, where present; on a share the call centre's own."""
        seed, person, key = self.people.seed, self.people.person, self.key
        has_line = self.people.has_fixed_line()
        kind = np.full(person.shape, MOBILE)
        kind[has_line & chance(FIXED_LINE_USE, seed, "gives the fixed line", person)] = FIXED
        employed = self.people.employer >= 0
        kind[employed & chance(SWITCHBOARD_USE, seed, "gives the switchboard", person)] = SWITCHBOARD
        other = chance(OTHER_PHONE_RATE, key, "other number")
        kind = np.where(other, np.where(has_line, FIXED, SECOND_MOBILE), kind)
        phones = noise.written_phones(self.people.phones(kind), kind == SWITCHBOARD, key)
        return noise.with_call_centre(only_where(phones, present), self.event, self.junk_phone_share)

    def postal_code(self) -> pl.Series:
        return noise.written_postal_codes(self.people.postal_codes(), self.key)

    def present(self, rate: float | np.ndarray, field_name: str) -> np.ndarray:
        """Which records have the field at all: for an account's entry always the same."""
        return chance(rate, self.key, "present " + field_name)


def only_where(values: pl.Series, present: np.ndarray) -> pl.Series:
    """The values, null where not present."""
    return pl.DataFrame({"v": values, "p": present}).select(pl.when("p").then("v")).to_series()


def hour_bounds(plan: DayPlan) -> np.ndarray:
    """Serial numbers at which the hours begin (25): the daily curve, with not a record lost to rounding."""
    return np.rint(np.cumsum([0, *DAILY_CURVE]) / sum(DAILY_CURVE) * plan.records).astype(np.int64)


def events(plan: DayPlan, source: Source, serial: np.ndarray) -> np.ndarray:
    """The key of each record."""
    return hashes(plan.seed, "event", hashes(0, source.name), plan.day, serial)


def times(plan: DayPlan, source: Source, serial: np.ndarray, has_eve: bool) -> tuple[np.ndarray, np.ndarray]:
    """When each record's event was, in milliseconds since FIRST_DAY, and whether it comes in late.

    Late ones belong to one of three hours of the day before, whose upload was stuck.
    """
    bounds = hour_bounds(plan)
    hour = np.searchsorted(bounds, serial, side="right") - 1
    inside = (serial - bounds[hour] + 0.5) / np.maximum(bounds[hour + 1] - bounds[hour], 1)
    event = events(plan, source, serial)
    late = chance(LATE_RATE if has_eve else 0.0, event, "late")
    stuck = below(HOURS, plan.seed, "stuck hours", hashes(0, source.name), plan.day, np.arange(3))
    hour = np.where(late, stuck[below(3, event, "which stuck hour")] - HOURS, hour)
    inside = np.where(late, uniform(event, "late minute"), inside)
    return (plan.day * HOURS + hour) * MILLISECONDS + (inside * MILLISECONDS).astype(np.int64), late


@cache
def _cumulative_activity(seed: int, source: str, population: int, spread: float) -> np.ndarray:
    who = np.arange(population)
    # A normal number from two uniform ones (Box and Muller 1958).
    radius = np.sqrt(-2 * np.log1p(-uniform(seed, "activity", who)))
    normal = radius * np.cos(2 * np.pi * uniform(seed, "activity angle", who))
    weight = np.exp(spread * normal) * chance(INTEREST[source], seed, "interest " + source, who)
    return np.cumsum(np.maximum(weight, 1e-9))


def persons(plan: DayPlan, source: Source, serial: np.ndarray) -> np.ndarray:
    """Whose each record is."""
    if plan.activity_spread == 0:
        # 2654435761 is prime: a walk that visits everybody before anybody again.
        return (serial * 2_654_435_761 + plan.day) % plan.population
    cumulative = _cumulative_activity(plan.seed, source.name, plan.population, plan.activity_spread)
    drawn = uniform(events(plan, source, serial), "person") * cumulative[-1]
    return np.minimum(np.searchsorted(cumulative, drawn, side="right"), plan.population - 1)


def record_ids(plan: DayPlan, source: Source, serial: np.ndarray) -> pl.Series:
    """O000400000123: the source's letter, the day in four digits or more, the serial number in eight."""
    return f"{source.letter}{plan.day:04d}" + pl.Series(serial).cast(pl.String).str.zfill(8)


def timestamps(milliseconds: np.ndarray) -> pl.Series:
    """ISO 8601 in UTC with milliseconds."""
    start = (FIRST_DAY - date(1970, 1, 1)).days * HOURS * MILLISECONDS
    moments = pl.Series(milliseconds + start).cast(pl.Datetime("ms"))
    return moments.dt.strftime("%Y-%m-%dT%H:%M:%S%.3fZ")


def bodies(
    source: Source,
    seed: np.ndarray,
    person: np.ndarray,
    day: np.ndarray,
    event: np.ndarray,
    typing: np.ndarray,
    junk_phone_share: float,
) -> pl.DataFrame:
    """The source's columns, except id and time, for records of `person` typed on `day`.

    `event` is the record's key; `typing` the key of what was typed by hand: it differs in a correction.
    """
    account = hashes(seed, "account", hashes(0, source.name), person)
    key = np.where(chance(source.retyped_rate, typing, "retyped"), typing, account)
    stale = chance(STALE_RATE, key, "stale")
    age = np.where(stale, -np.log1p(-uniform(key, "stale since")) * STALE_DAYS, 0).astype(np.int64)
    return source.compose(Entries(people(seed, person, day - age), event, key, junk_phone_share))


def weighted(values: list[str], weights: list[float], key: np.ndarray, stream: str) -> pl.Series:
    """One of `values` per record."""
    return pl.Series(values).gather(choice(weights, key, stream))
