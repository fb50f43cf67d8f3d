"""What has to be resolved again: a change is followed through the graph until nothing is added.

1. A changed record touches its profile, and the customer it was in; a newly weighed pair that merges, or a decision
   of a steward, touches its profiles.
2. From a profile the graph leads to the customers of its records, to the other ends of links that are refused, and to
   the profiles of the same decision; from a customer to the profiles of its members. A link that stands is between
   profiles of one customer, or as new as its pair.
3. A weighed pair that does not merge counts between groups of one component only. Where one side is touched, the
   other is too, or is of another component. Where neither is, it touches both if they are of one customer, or of two
   that a refused link or a decision has kept apart.
"""

from collections.abc import Callable, Collection
from functools import cache
from pathlib import Path

import numpy as np
import polars as pl
from psycopg2.extensions import cursor as Cursor

from db.postgres import array_text, copy_out, copy_out_numbers, estimated_rows, uuid_bytes

HERE = Path(__file__).resolve().parent
MEMBER = {
    "record_key": pl.Int64,
    "profile_key": pl.Int64,
    "source_number": pl.Int16,
    "old_customer": pl.String,
    "home_customer": pl.String,
    "old_confidence": pl.Float32,
    "old_assigned_by": pl.String,
}
CHANGED = MEMBER | {"is_deleted": pl.String, "old_profile_key": pl.Int64}
NO_CUSTOMERS = pl.Series("old_customer", [], dtype=pl.String)


def changed_records(cursor: Cursor, parameters: dict) -> pl.DataFrame:
    """The records that changed since the mark."""
    return copy_out(cursor, _sql("changed_records"), CHANGED, parameters)


def weighed_pairs(cursor: Cursor, parameters: dict) -> pl.DataFrame:
    """left_profile_key, right_profile_key, is_merging of the pairs that were weighed since the mark."""
    columns = {"left_profile_key": pl.Int64, "right_profile_key": pl.Int64, "is_merging": pl.Boolean}
    return copy_out_numbers(cursor, _sql("weighed_pairs"), columns, parameters)


def decided_profiles(cursor: Cursor) -> pl.DataFrame:
    """decision_id, profile_key, is_active, is_changed of the decisions of stewards."""
    columns = {
        "decision_id": pl.Int64,
        "profile_key": pl.Int64,
        "is_active": pl.Boolean,
        "is_changed": pl.Boolean,
    }
    return copy_out_numbers(cursor, _sql("decided_profiles"), columns)


class Touched:
    """Profiles that are touched, and the members of their customers.

    refused: left_profile_key, right_profile_key of the refused links of them.
    """

    def __init__(self, changed: pl.DataFrame, weighed: pl.DataFrame, decided: pl.DataFrame, cursor: Cursor):
        self._changed, self._weighed, self._decided, self._cursor = changed, weighed, decided, cursor
        self._profiles: set[int] = set()
        self._customers: set[str] = set()
        self._members: list[pl.DataFrame] = []
        self._all_refused: pl.DataFrame | None = None
        self.refused: list[pl.DataFrame] = []

    def follow(self, reached: Callable[[np.ndarray], None]) -> None:
        """Follow all changes through the graph; `reached` is told the profiles, some at a time."""
        merging = self._weighed.filter("is_merging")
        seeds = [
            self._changed["profile_key"],
            self._decided.filter("is_changed")["profile_key"],
            merging["left_profile_key"],
            merging["right_profile_key"],
        ]
        self._expand(_distinct(*seeds), self._changed["old_customer"].drop_nulls(), reached)
        sides = self._sides_of_one_component()
        if len(sides):
            self._expand(sides, NO_CUSTOMERS, reached)

    def records(self) -> pl.DataFrame:
        """The live records of what is touched: those that changed, and those that stand as they were resolved."""
        standing = pl.concat(self._members).join(self._changed, on="record_key", how="anti")
        standing = standing.with_columns(old_profile_key="profile_key", is_changed=False)
        changed = self._changed.filter(pl.col("is_deleted") == "f").with_columns(is_changed=True)
        return pl.concat([standing, changed.select(standing.columns)]).with_columns(
            uuid_bytes("old_customer"),
            uuid_bytes("home_customer").fill_null(uuid_bytes("old_customer")),
        )

    def _expand(
        self, profiles: np.ndarray, customers: pl.Series, reached: Callable[[np.ndarray], None]
    ) -> None:
        """Take in these profiles and customers, and all the graph leads to from them."""
        while True:
            self._profiles.update(profiles.tolist())
            reached(profiles)
            found = {*customers, *self._customers_of(profiles)} - self._customers
            self._customers |= found
            members = self._members_of(found)
            self._members.append(members)
            refused = self._refused_of(profiles)
            self.refused.append(refused)
            ends = _distinct(
                members["profile_key"],
                refused["left_profile_key"],
                refused["right_profile_key"],
                self._decided_with(profiles),
            )
            profiles = np.array([key for key in ends.tolist() if key not in self._profiles], np.int64)
            if not len(profiles):
                return
            customers = NO_CUSTOMERS

    def _sides_of_one_component(self) -> np.ndarray:
        """The profiles of weighed pairs that do not merge, but may be of one component, and are not touched yet."""
        touched = pl.Series(list(self._profiles), dtype=pl.Int64).implode()
        pairs = self._weighed.filter(
            ~pl.col("is_merging")
            & ~pl.col("left_profile_key").is_in(touched)
            & ~pl.col("right_profile_key").is_in(touched)
        )
        left = self._sides(pairs["left_profile_key"])
        pairs = pairs.join(left, left_on="left_profile_key", right_on="profile_key").rename(
            {"customer": "left_customer", "is_kept_apart": "left_apart"}
        )
        same = pairs.join(
            left.select("customer", right_profile_key="profile_key"),
            left_on=["left_customer", "right_profile_key"],
            right_on=["customer", "right_profile_key"],
            how="semi",
        )
        apart = pairs.filter("left_apart")
        right = self._sides(apart["right_profile_key"]).filter("is_kept_apart")
        apart = apart.join(right, left_on="right_profile_key", right_on="profile_key", how="semi")
        both = pl.concat([part.select("left_profile_key", "right_profile_key") for part in (same, apart)])
        return _distinct(both["left_profile_key"], both["right_profile_key"])

    def _sides(self, profiles: pl.Series) -> pl.DataFrame:
        """profile_key, customer of the members of the customers of these profiles; is_kept_apart, whether the customer
        is, by a refused link or a decision."""
        members = self._members_of(self._customers_of(_distinct(profiles)))
        sides = members.select("profile_key", customer="old_customer").drop_nulls().unique()
        keys = _distinct(sides["profile_key"])
        refused = self._refused_of(keys)
        apart = _distinct(
            refused["left_profile_key"],
            refused["right_profile_key"],
            self._decided.filter("is_active")["profile_key"],
        )
        return sides.with_columns(
            is_kept_apart=pl.col("profile_key").is_in(pl.Series(apart).implode()).any().over("customer")
        )

    def _customers_of(self, profiles: np.ndarray) -> pl.Series:
        if not len(profiles):
            return NO_CUSTOMERS
        wanted = {"profiles": array_text(profiles)}
        return copy_out(self._cursor, _sql("customers_of_profiles"), {"old_customer": pl.String}, wanted)[
            "old_customer"
        ]

    def _members_of(self, customers: Collection[str]) -> pl.DataFrame:
        if not len(customers):
            return pl.DataFrame(schema=MEMBER)
        return copy_out(
            self._cursor, _sql("members_of_customers"), MEMBER, {"customers": array_text(customers)}
        )

    def _refused_of(self, profiles: np.ndarray) -> pl.DataFrame:
        """The refused links with one of these profiles. Where there are no more of them than profiles, all are read."""
        columns = {"left_profile_key": pl.Int64, "right_profile_key": pl.Int64}
        if not len(profiles):
            return pl.DataFrame(schema=columns)
        if self._all_refused is None:
            if estimated_rows(self._cursor, "identity.refused_links") > len(profiles):
                wanted = {"profiles": array_text(profiles)}
                return copy_out_numbers(self._cursor, _sql("refused_of_profiles"), columns, wanted)
            every = "select left_profile_key, right_profile_key from identity.refused_links"
            self._all_refused = copy_out_numbers(self._cursor, every, columns)
        keys = pl.Series(profiles).implode()
        return self._all_refused.filter(
            pl.col("left_profile_key").is_in(keys) | pl.col("right_profile_key").is_in(keys)
        )

    def _decided_with(self, profiles: np.ndarray) -> pl.Series:
        """The profiles of active decisions about one of these."""
        if not self._decided.height:
            return self._decided["profile_key"]
        active = self._decided.filter("is_active")
        about = active.filter(pl.col("profile_key").is_in(pl.Series(profiles).implode()))
        return active.join(about, on="decision_id", how="semi")["profile_key"]


def _distinct(*keys: pl.Series) -> np.ndarray:
    """The keys, each once, in order."""
    return np.unique(np.concatenate([part.drop_nulls().to_numpy() for part in keys]))


@cache
def _sql(name: str) -> str:
    return (HERE / f"{name}.sql").read_text(encoding="utf-8")
