"""From clusters of records to the customers they are: a pure function of columns; ids stay.

1. An id there was is kept by the cluster that most of its records are in. Records first given the id count before
   those it got by a merge, so that an un-merge leaves each its own; ties go to the records that were not corrected,
   then to the smallest record.
2. Of several ids that a cluster keeps, the one with most records survives, then the oldest, then the smallest.
3. A cluster left without an id takes back the one most of its records came with, if nobody lives under it.
4. The rest are founded by their smallest record, under the first of its ids that was never given. A record that
   was withdrawn and has come again may open the one it founded once more, if that was closed.

Ids are their 16 bytes. What has moved is given in the order of clusters and record keys.
"""

from collections.abc import Callable
from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Decimal
from hashlib import md5
from itertools import pairwise

import numpy as np
import polars as pl

ATTEMPTS = 1000
# A decision of a steward is stronger than any link.
STEWARD_STRENGTH = 1000.0
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
    digests = b"".join(
        [
            md5(b"customer\x1f%d\x1f%d" % (key, attempt), usedforsecurity=False).digest()
            for key in record_keys.to_list()
        ]
    )
    ids = np.frombuffer(digests, np.uint8).reshape(-1, 16).copy()
    # The version and the variant.
    ids[:, [6, 8]] = ids[:, [6, 8]] & 0x0F | 0x80
    return pl.Series("customer", ids).cast(pl.List(pl.UInt8)).cast(pl.Binary)


def assign(moves: pl.DataFrame, registry: Callable[[pl.Series], pl.DataFrame]) -> Assignment:
    """The customer of each cluster.

    moves: record_key, cluster, old_customer, home_customer (null for a new record; left out where all are new).
    registry: of some ids, those that were ever given: customer, status, record_count, created_run_id.
    """
    former = former_members(moves)
    start = _starts(moves)
    clusters = pl.DataFrame(
        {
            "cluster": moves["cluster"].gather(start),
            "record_count": pl.Series(np.diff(start, append=moves.height), dtype=pl.Int32),
            "first_record_key": moves["record_key"].gather(start),
        }
    )
    kept = _kept_ids(former)
    # What is known of an id matters only where a cluster has several to choose from, or none.
    is_only = ~pl.col("cluster").is_duplicated()
    rivals = kept.filter(~is_only)
    survivors = pl.concat(
        [
            kept.filter(is_only).select("cluster", "customer"),
            rivals.join(registry(rivals["customer"]), on="customer")
            .sort(
                "cluster",
                "record_count",
                "created_run_id",
                "customer",
                descending=[False, True, False, False],
            )
            .unique("cluster", keep="first", maintain_order=True)
            .select("cluster", "customer"),
        ]
    )
    orphans = former.join(survivors, on="cluster", how="anti")
    returned = _returned_ids(orphans, registry(orphans["home_customer"].unique()))
    owned = pl.concat(
        [
            survivors.with_columns(is_opened=pl.lit(False)),
            returned.with_columns(is_opened=pl.lit(True)),
        ]
    )
    founders = clusters.join(owned, on="cluster", how="anti", maintain_order="left").with_columns(
        is_new=~pl.col("cluster").is_in(former["cluster"].unique().implode())
    )
    founded = _founded_ids(founders, owned["customer"], registry)
    owned = pl.concat([owned, founded.with_columns(is_opened=pl.lit(True))])
    return Assignment(clusters.join(owned, on="cluster", how="left", maintain_order="left"), kept)


def nobody(ids: pl.Series) -> pl.DataFrame:
    """The registry where nobody lives under any id."""
    return pl.DataFrame(
        schema={
            "customer": pl.Binary,
            "status": pl.String,
            "record_count": pl.Int32,
            "created_run_id": pl.Int32,
        }
    )


def whole_clusters(moves: pl.DataFrame, size: int) -> list[pl.DataFrame]:
    """The moves in parts of about this size, no cluster in two of them; where all are new, a part can be assigned by
    itself."""
    starts = np.append(_starts(moves), moves.height)
    cuts = np.unique(
        starts[np.searchsorted(starts, np.arange(0, moves.height + size, size)).clip(max=len(starts) - 1)]
    )
    return [moves[first:end] for first, end in pairwise(cuts.tolist())] or [moves]


def together(parts: list[Assignment]) -> Assignment:
    """The assignment of all parts."""
    return Assignment(pl.concat([part.clusters for part in parts]), pl.concat([part.kept for part in parts]))


def _starts(moves: pl.DataFrame) -> np.ndarray:
    """The first row of each cluster."""
    return np.flatnonzero(np.diff(moves["cluster"].to_numpy(), prepend=-1))


def former_members(moves: pl.DataFrame) -> pl.DataFrame:
    """The moves of records that had a customer."""
    if "old_customer" in moves.columns:
        return moves.filter(pl.col("old_customer").is_not_null())
    return moves.clear().with_columns(
        old_customer=pl.lit(None, pl.Binary), home_customer=pl.lit(None, pl.Binary), is_changed=True
    )


def _kept_ids(former: pl.DataFrame) -> pl.DataFrame:
    """customer, cluster: the cluster that keeps each id there was."""
    return (
        former.group_by("old_customer", "cluster")
        .agg(
            home_count=(pl.col("home_customer") == pl.col("old_customer")).sum(),
            record_count=pl.len(),
            unchanged_count=(~pl.col("is_changed")).sum(),
            first_record_key=pl.col("record_key").min(),
        )
        .sort(
            "old_customer",
            "home_count",
            "record_count",
            "unchanged_count",
            "first_record_key",
            descending=[False, True, True, True, False],
        )
        .unique("old_customer", keep="first", maintain_order=True)
        .select(customer="old_customer", cluster="cluster")
    )


def _returned_ids(former: pl.DataFrame, registry: pl.DataFrame) -> pl.DataFrame:
    """cluster, customer: clusters without an id that take back one that nobody lives under."""
    return (
        former.join(
            registry.filter(pl.col("status").is_in(["merged", "closed"])),
            left_on="home_customer",
            right_on="customer",
        )
        .group_by("cluster", "home_customer")
        .agg(record_count=pl.len())
        .sort("cluster", "record_count", "home_customer", descending=[False, True, False])
        .unique("cluster", keep="first", maintain_order=True)
        .sort("home_customer", "record_count", "cluster", descending=[False, True, False])
        .unique("home_customer", keep="first", maintain_order=True)
        .select("cluster", customer="home_customer")
    )


def _founded_ids(
    founders: pl.DataFrame, taken: pl.Series, registry: Callable[[pl.Series], pl.DataFrame]
) -> pl.DataFrame:
    """cluster, customer: clusters under an id of their smallest record."""
    found = [pl.DataFrame(schema={"cluster": pl.Int64, "customer": pl.Binary})]
    for attempt in range(ATTEMPTS):
        if not founders.height:
            break
        ids = founded_ids(founders["first_record_key"], attempt)
        known = registry(ids)
        closed = known.filter(pl.col("status") == "closed")["customer"]
        may_open = founders["is_new"] & ids.is_in(closed.implode())
        is_free = ~ids.is_in(taken.implode()) & (~ids.is_in(known["customer"].implode()) | may_open)
        found.append(founders.select("cluster", customer=ids).filter(is_free))
        founders = founders.filter(~is_free)
    return pl.concat(found)


def changed_customers(moves: pl.DataFrame, assignment: Assignment, withdrawn: pl.Series) -> pl.DataFrame:
    """One row per customer whose members changed, or an attribute of a member: global_customer_id, cluster (null
    for one without records), status, merged_into, record_count.

    moves: as for `assign`, with is_changed. withdrawn: customers that lost a record at its source.
    """
    clusters = assignment.clusters.select("cluster", "customer", "record_count")
    if "old_customer" in moves.columns:
        known = moves.join(clusters, on="cluster", how="left", maintain_order="left")
        has_come = pl.col("old_customer").ne_missing(pl.col("customer"))
        touched = known.filter(has_come | pl.col("is_changed"))
        left = pl.concat([touched["old_customer"], withdrawn]).drop_nulls().unique()
        has_changed = pl.col("cluster").is_in(touched["cluster"].unique().implode()) | pl.col(
            "customer"
        ).is_in(left.implode())
        gone = left.filter(~left.is_in(clusters["customer"].implode()))
        clusters = clusters.filter(has_changed)
    else:
        gone = withdrawn
    owners = assignment.clusters.select("cluster", heir="customer")
    heirs = assignment.kept.join(owners, on="cluster").select("customer", "heir")
    live = clusters.select(
        "cluster", "customer", "record_count", status=pl.lit("live"), heir=pl.lit(None, pl.Binary)
    )
    without = (
        gone.alias("customer")
        .to_frame()
        .join(heirs, on="customer", how="left")
        .select(
            pl.lit(None, pl.Int64).alias("cluster"),
            "customer",
            pl.lit(0, pl.Int32).alias("record_count"),
            pl.when(pl.col("heir").is_not_null())
            .then(pl.lit("merged"))
            .otherwise(pl.lit("closed"))
            .alias("status"),
            "heir",
        )
    )
    return (
        pl.concat([live, without])
        .sort("customer")
        .select("cluster", "status", "record_count", global_customer_id="customer", merged_into="heir")
    )


def compositions(moves: pl.DataFrame, assignment: Assignment, source_bits: dict[int, int]) -> pl.DataFrame:
    """What the customer of each cluster is made of: cluster, source_mask, the sum of the bits of its sources, and
    profile_count, its distinct profiles if it has LARGE_CUSTOMER records or more.

    moves: cluster, profile_key, source_number. source_bits: source_number -> raw.sources.source_bit.
    """
    bits = moves["source_number"].replace_strict(source_bits, default=0, return_dtype=pl.Int64).to_numpy()
    start = _starts(moves)
    large = assignment.clusters.filter(pl.col("record_count") >= LARGE_CUSTOMER)
    profiles = (
        moves.join(large, on="cluster", how="semi")
        .group_by("cluster")
        .agg(profile_count=pl.col("profile_key").n_unique())
    )
    return pl.DataFrame(
        {
            "cluster": moves["cluster"].gather(start),
            "source_mask": np.bitwise_or.reduceat(bits, start) if len(start) else bits,
        }
    ).join(profiles, on="cluster", how="left", maintain_order="left")


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


def merged_ids(assignment: Assignment) -> pl.DataFrame:
    """One row per id of which no record is left: customer, cluster, into_customer, the id of the cluster that
    most of its records are in."""
    return (
        assignment.kept.join(assignment.clusters.select("cluster", into_customer="customer"), on="cluster")
        .filter(pl.col("customer") != pl.col("into_customer"))
        .select("customer", "cluster", "into_customer")
        .sort("customer")
    )


def merges(
    merged: pl.DataFrame, moves: pl.DataFrame, links: pl.DataFrame, decisions: pl.DataFrame
) -> pl.DataFrame:
    """One row per merge, with the decision or the strongest link behind it: from_customer_id, into_customer_id,
    record_count, left_record_key, right_record_key, decision_id, reason.

    merged: as of `merged_ids`. moves: as for `assign`, with profile_key. links: left_profile_key, right_profile_key,
    match_weight of those that stand. decisions: decision_id, judgement, record_key of the active ones.
    """
    moves = moves.join(merged.select("cluster").unique(), on="cluster", how="semi")
    members = moves.group_by("profile_key", "cluster", "old_customer").agg(pl.col("record_key").min())
    same = decisions.filter(pl.col("judgement") == "same").join(
        moves.select("record_key", "cluster", "old_customer"), on="record_key"
    )
    by_link = (
        links.join(members, left_on="left_profile_key", right_on="profile_key")
        .join(
            members,
            left_on=["right_profile_key", "cluster"],
            right_on=["profile_key", "cluster"],
            suffix="_right",
        )
        .with_columns(decision_id=pl.lit(None, pl.Int64), strength=pl.col("match_weight").cast(pl.Float64))
    )
    by_decision = (
        same.join(same, on=["decision_id", "cluster"], suffix="_right")
        .filter(pl.col("record_key") < pl.col("record_key_right"))
        .with_columns(strength=pl.lit(STEWARD_STRENGTH))
    )
    columns = [
        "cluster", "old_customer", "old_customer_right", "record_key", "record_key_right", "decision_id", "strength",
    ]  # fmt: skip
    bonds = pl.concat([by_link.select(columns), by_decision.select(columns)]).filter(
        pl.col("old_customer").ne_missing(pl.col("old_customer_right"))
    )
    strongest = (
        pl.concat(
            bonds.rename({side: "customer"}).select("customer", *columns[3:])
            for side in ("old_customer", "old_customer_right")
        )
        .sort(
            "customer", "strength", "record_key", "record_key_right", descending=[False, True, False, False]
        )
        .unique("customer", keep="first", maintain_order=True)
    )
    counts = moves.group_by("cluster", customer="old_customer").agg(record_count=pl.len().cast(pl.Int32))
    return (
        merged.join(counts, on=["customer", "cluster"])
        .join(strongest, on="customer", how="left")
        .sort("customer")
        .select(
            "record_count",
            "decision_id",
            from_customer_id="customer",
            into_customer_id="into_customer",
            left_record_key="record_key",
            right_record_key="record_key_right",
            reason=pl.struct("decision_id", "strength").map_elements(_reason, pl.String),
        )
    )


def _reason(bond: dict) -> str:
    if bond["decision_id"] is not None:
        return "decision of a steward"
    if bond["strength"] is not None:
        weight = Decimal(f"{bond['strength']:.6g}").quantize(Decimal("0.1"), ROUND_HALF_UP)
        return f"link of weight {weight}"
    return "joined through other records"
