"""From clusters of records to the customers they are: a pure function of columns; ids stay.

1. An id there was is kept by the cluster that most of its records are in. Records first given the id count before
   those it got by a merge, so that an un-merge leaves each its own; ties go to the smallest record.
2. Of several ids that a cluster keeps, the one with most records survives, then the oldest, then the smallest.
3. A cluster left without an id takes back the one most of its records came with, if nobody lives under it.
4. The rest are founded by their smallest record, under the first of its ids that nobody lives under.
"""

from collections.abc import Callable
from dataclasses import dataclass
from hashlib import md5

import polars as pl

ATTEMPTS = 1000
# Customers of this many records have their distinct profiles counted.
LARGE_CUSTOMER = 20


@dataclass(frozen=True)
class Assignment:
    """clusters: cluster, customer, record_count, first_record_key, is_opened (nobody lived under the id).

    kept: customer, cluster, of every id there was.
    """

    clusters: pl.DataFrame
    kept: pl.DataFrame


def founded_ids(record_keys: pl.Series, attempt: int) -> pl.Series:
    """The n-th id that each record can found a customer with: a UUID of version 8 (RFC 9562), so that the same
    records get the same ids."""
    digits = pl.Series(
        "digits",
        [
            md5(b"customer\x1f%d\x1f%d" % (key, attempt), usedforsecurity=False).hexdigest()
            for key in record_keys.to_list()
        ],
        dtype=pl.String,
    )
    part = pl.col("digits").str.slice
    return (
        digits.to_frame()
        .select(
            pl.concat_str(
                part(0, 8), pl.lit("-"), part(8, 4), pl.lit("-8"), part(13, 3), pl.lit("-8"), part(17, 3),
                pl.lit("-"), part(20, 12),
            )
        )
        .to_series()
    )  # fmt: skip


def assign(
    moves: pl.DataFrame, registry: pl.DataFrame, living: Callable[[list[str]], set[str]]
) -> Assignment:
    """The customer of each cluster.

    moves: record_key, cluster, old_customer, home_customer (null for a new record; left out where all are new).
    registry: customer, status, record_count, created_run_id of all these. living: which of some ids somebody lives
    under.
    """
    former = former_members(moves)
    clusters = moves.group_by("cluster").agg(
        record_count=pl.len().cast(pl.Int32), first_record_key=pl.col("record_key").min()
    )
    kept = _kept_ids(former)
    survivors = (
        kept.join(registry, on="customer")
        .sort("cluster", "record_count", "created_run_id", "customer", descending=[False, True, False, False])
        .unique("cluster", keep="first", maintain_order=True)
        .select("cluster", "customer")
    )
    returned = _returned_ids(former.join(survivors, on="cluster", how="anti"), registry)
    owned = pl.concat(
        [
            survivors.with_columns(is_opened=pl.lit(False)),
            returned.with_columns(is_opened=pl.lit(True)),
        ]
    )
    founders = clusters.join(owned, on="cluster", how="anti").sort("first_record_key")
    founded = _founded_ids(founders, set(owned["customer"]), living)
    owned = pl.concat([owned, founded.with_columns(is_opened=pl.lit(True))])
    return Assignment(clusters.join(owned, on="cluster", how="left").sort("cluster"), kept)


def former_members(moves: pl.DataFrame) -> pl.DataFrame:
    """The moves of records that had a customer."""
    if "old_customer" in moves.columns:
        return moves.filter(pl.col("old_customer").is_not_null())
    return moves.clear().with_columns(
        old_customer=pl.lit(None, pl.String), home_customer=pl.lit(None, pl.String), is_changed=True
    )


def _kept_ids(former: pl.DataFrame) -> pl.DataFrame:
    """customer, cluster: the cluster that keeps each id there was."""
    return (
        former.group_by("old_customer", "cluster")
        .agg(
            home_count=(pl.col("home_customer") == pl.col("old_customer")).sum(),
            record_count=pl.len(),
            first_record_key=pl.col("record_key").min(),
        )
        .sort(
            "old_customer",
            "home_count",
            "record_count",
            "first_record_key",
            descending=[False, True, True, False],
        )
        .unique("old_customer", keep="first", maintain_order=True)
        .select(customer="old_customer", cluster="cluster")
    )


def _returned_ids(former: pl.DataFrame, registry: pl.DataFrame) -> pl.DataFrame:
    """cluster, customer: clusters without an id that take back one that nobody lives under."""
    return (
        former.join(registry.filter(pl.col("status") != "live"), left_on="home_customer", right_on="customer")
        .group_by("cluster", "home_customer")
        .agg(record_count=pl.len())
        .sort("cluster", "record_count", "home_customer", descending=[False, True, False])
        .unique("cluster", keep="first", maintain_order=True)
        .sort("home_customer", "record_count", "cluster", descending=[False, True, False])
        .unique("home_customer", keep="first", maintain_order=True)
        .select("cluster", customer="home_customer")
    )


def _founded_ids(
    founders: pl.DataFrame, taken: set[str], living: Callable[[list[str]], set[str]]
) -> pl.DataFrame:
    """cluster, customer: clusters under an id of their smallest record."""
    found = [pl.DataFrame(schema={"cluster": pl.Int64, "customer": pl.String})]
    for attempt in range(ATTEMPTS):
        if not founders.height:
            break
        ids = founded_ids(founders["first_record_key"], attempt)
        occupied = pl.Series(sorted(taken | living(ids.to_list())), dtype=pl.String)
        named = founders.select("cluster", customer=ids)
        is_free = ~ids.is_in(occupied.implode())
        found.append(named.filter(is_free))
        founders = founders.filter(~is_free)
    return pl.concat(found)


def changed_customers(moves: pl.DataFrame, assignment: Assignment, withdrawn: list[str]) -> pl.DataFrame:
    """One row per customer whose members changed, or an attribute of a member: global_customer_id, status,
    merged_into, record_count.

    moves: as for `assign`, with is_changed. withdrawn: customers that lost a record at its source.
    """
    former = former_members(moves)
    arrived = moves.join(former, on="record_key", how="anti").select("cluster").unique()
    known = former.join(assignment.clusters.select("cluster", "customer"), on="cluster", how="left")
    moved = known.filter(pl.col("customer") != pl.col("old_customer"))
    ids = pl.concat(
        [
            assignment.clusters.join(arrived, on="cluster", how="semi")["customer"],
            moved["customer"],
            moved["old_customer"],
            known.filter("is_changed")["old_customer"].alias("customer"),
            pl.Series("customer", withdrawn, dtype=pl.String),
        ]
    ).unique()
    owners = assignment.clusters.select("cluster", heir="customer")
    return (
        ids.to_frame()
        .join(assignment.clusters.select("customer", "record_count"), on="customer", how="left")
        .join(assignment.kept.join(owners, on="cluster"), on="customer", how="left")
        .sort("customer")
        .select(
            pl.col("customer").alias("global_customer_id"),
            pl.when(pl.col("record_count") > 0)
            .then(pl.lit("live"))
            .when(pl.col("heir").is_not_null())
            .then(pl.lit("merged"))
            .otherwise(pl.lit("closed"))
            .alias("status"),
            pl.when(pl.col("record_count").is_null()).then("heir").alias("merged_into"),
            pl.col("record_count").fill_null(0),
        )
    )


def compositions(moves: pl.DataFrame, assignment: Assignment, source_bits: dict[int, int]) -> pl.DataFrame:
    """What the customer of each cluster is made of: global_customer_id, source_mask, the sum of the bits of its
    sources, and profile_count, its distinct profiles if it has LARGE_CUSTOMER records or more.

    moves: cluster, profile_key, source_number. source_bits: source_number -> raw.sources.source_bit.
    """
    bit = pl.col("source_number").replace_strict(source_bits, default=0, return_dtype=pl.Int64)
    masks = (
        moves.select("cluster", source_mask=bit).group_by("cluster").agg(pl.col("source_mask").bitwise_or())
    )
    large = assignment.clusters.filter(pl.col("record_count") >= LARGE_CUSTOMER)
    profiles = (
        moves.join(large, on="cluster", how="semi")
        .group_by("cluster")
        .agg(profile_count=pl.col("profile_key").n_unique())
    )
    return (
        assignment.clusters.select("cluster", global_customer_id="customer")
        .join(masks, on="cluster", how="left")
        .join(profiles, on="cluster", how="left")
        .drop("cluster")
    )


def splits(moves: pl.DataFrame, assignment: Assignment) -> pl.DataFrame:
    """One row per split, records that left an id for one opened for them: from_customer_id, into_customer_id,
    record_count."""
    opened = assignment.clusters.filter("is_opened").select("cluster", "customer")
    return (
        former_members(moves)
        .join(opened, on="cluster")
        .filter(pl.col("old_customer") != pl.col("customer"))
        .group_by(from_customer_id="old_customer", into_customer_id="customer")
        .agg(record_count=pl.len().cast(pl.Int32))
        .sort("from_customer_id", "into_customer_id")
    )


def merges(assignment: Assignment) -> pl.DataFrame:
    """One row per id of which no record is left: customer, cluster, into_customer, the id of the cluster that
    most of its records are in."""
    return (
        assignment.kept.join(assignment.clusters.select("cluster", into_customer="customer"), on="cluster")
        .filter(pl.col("customer") != pl.col("into_customer"))
        .select("customer", "cluster", "into_customer")
        .sort("customer")
    )
