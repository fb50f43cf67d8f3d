"""From blocks of profiles to candidate pairs: a pure function of columns, no database in it.

1. A block is the profiles that have a key in common under one blocking rule. All with all are paired, as far as
   one of the two is new or the block is to be paired afresh.
2. A block of more profiles than the rule's limit is capped: everyone in it is paired with its anchors only, the
   few smallest profile keys, so that its pairs grow with its size and not with the square. One that is past
   where the rule gives up has no anchors, and no pairs.
3. A block that crossed a limit, or whose anchors changed, is paired afresh. So the pairs in force depend on the
   profiles there are, and not on the order in which they came.
4. A pair that several rules find is one pair, with all of them.

Memory: 13 bytes per member of a block, and per found pair 8 bytes for each rule that finds it, twice over while
they are collected.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple

import numpy as np
import polars as pl

# A block over its rule's limit pairs everybody with this many of its profiles.
ANCHORS = 5
WORKERS = 2
# A found pair is one number: the rows of its sides, then the rule in so many bits.
RULE_BITS = 5
# Found pairs are united so many at a time; some are sent while the next are united.
PART = 1 << 15
MEMBERS = {"rule_id": pl.Int16, "key": pl.Int64, "profile_key": pl.Int64}
CAPPED = {
    "rule_id": pl.Int16,
    "key": pl.Int64,
    "profile_count": pl.Int64,
    "anchor_limit": pl.Int64,
    "anchors": pl.List(pl.Int64),
}
SIZES = {"rule_id": pl.Int16, "key": pl.Int64, "profile_count": pl.Int64}
BLOCK = ["rule_id", "key"]
PAIR = ["left_profile_key", "right_profile_key"]
SMALLEST, LARGEST = np.iinfo(np.int64).min, np.iinfo(np.int64).max


class Limits(NamedTuple):
    """A rule's limits. limit: most profiles of a block that are all paired with all. give_up: most that are paired
    with anchors."""

    limit: int
    give_up: int = LARGEST


@dataclass(frozen=True)
class Candidates:
    """Candidate pairs, and what is known of the blocks they were found in.

    coded: a number for each pair and rule that found it, in order; profile_keys: of the rows that stand in them.
    capped: the capped blocks among those looked at, as CAPPED, with example, a member, and is_afresh. sizes: as
    SIZES, the blocks looked at that have more than one member. found: rule_id -> pairs it found.
    """

    profile_keys: np.ndarray
    coded: np.ndarray
    capped: pl.DataFrame
    sizes: pl.DataFrame
    found: dict[int, int]

    @cached_property
    def pairs(self) -> pl.DataFrame:
        """left_profile_key, right_profile_key, rules, rule_id; in order of the keys."""
        return pl.concat([_unite(self.profile_keys, self.coded[:0]), *self.in_parts()])

    def in_parts(self) -> Iterator[pl.DataFrame]:
        """The pairs in parts, some PART of them each."""
        start = 0
        while start < len(self.coded):
            last = self.coded[min(start + PART, len(self.coded)) - 1]
            # Up to the last that is of the same pair.
            end = int(np.searchsorted(self.coded, last | ((1 << RULE_BITS) - 1), side="right"))
            yield _unite(self.profile_keys, self.coded[start:end])
            start = end


def of_one_rule(pairs: pl.DataFrame) -> dict[int, int]:
    """rule_id -> pairs that no other rule found. pairs: rules, rule_id."""
    alone = pairs.filter(pl.col("rules").bitwise_count_ones() == 1)
    return dict(alone["rule_id"].value_counts().iter_rows())


@dataclass(frozen=True)
class Members:
    """The members of a rule's blocks: their key, their row among the sorted profile keys, whether they are new.

    In order of the rows. is_new: None where all are.
    """

    key: np.ndarray
    row: np.ndarray
    is_new: np.ndarray | None = None


@dataclass(frozen=True)
class Changes:
    """Of a rule's changed blocks, in order of the key: by how much they grew, and what was known of them.

    first_change: the smallest profile key that came or went; up to anchor_limit the anchors are others now. Where
    there were none, anchor_limit is SMALLEST.
    is_partial: of a capped block only the anchors and what is new are among the members, as nothing else is
    needed; profile_count tells how many there were.
    """

    key: np.ndarray
    growth: np.ndarray
    first_change: np.ndarray
    was_capped: np.ndarray
    anchor_limit: np.ndarray
    profile_count: np.ndarray
    is_partial: np.ndarray


def block_changes(
    new: pl.DataFrame, dead: pl.DataFrame, capped: pl.DataFrame, limits: dict[int, Limits]
) -> pl.DataFrame:
    """One row per block that profiles came to or went from: rule_id, key, anchors and what Changes holds.

    new, dead: as MEMBERS. capped: as CAPPED, blocks that were capped before; whose anchors are null, they have to
    be found again.
    """
    changes = pl.concat([new.with_columns(change=pl.lit(1)), dead.with_columns(change=pl.lit(-1))])
    limit, give_up = (
        pl.col("rule_id").replace_strict(
            {rule: of[place] for rule, of in limits.items()}, return_dtype=pl.Int64
        )
        for place in (0, 1)
    )
    profile_count = pl.col("profile_count") + pl.col("growth")
    has_anchors = pl.col("anchors").list.len() > 0
    return (
        changes.group_by(BLOCK)
        .agg(growth=pl.col("change").sum().cast(pl.Int64), first_change=pl.col("profile_key").min())
        .join(capped, on=BLOCK, how="left")
        .with_columns(
            was_capped=pl.col("profile_count").is_not_null(),
            anchor_limit=pl.when(pl.col("anchors").is_null()).then(LARGEST).otherwise("anchor_limit"),
            profile_count=pl.col("profile_count").fill_null(0),
        )
        .with_columns(
            # It stays capped, with the same anchors.
            is_partial=pl.col("anchors").is_not_null()
            & (profile_count > limit)
            & ((profile_count <= give_up) == has_anchors)
            & (pl.col("first_change") > pl.col("anchor_limit"))
        )
        .sort(BLOCK)
    )


def pairs_of_changes(
    members: pl.DataFrame,
    new: pl.DataFrame,
    dead: pl.DataFrame,
    changes: pl.DataFrame,
    limits: dict[int, Limits],
) -> Candidates:
    """The pairs of changed blocks that have to be compared.

    changes: as `block_changes` gives it. members: as MEMBERS, all there were of its blocks that are not partial.
    new, dead: as MEMBERS, what came, of profiles that had no keys before, and what went.
    """
    # What stays given up has more members, or fewer, and nothing else.
    given_up = changes.filter("is_partial", pl.col("anchors").list.len() == 0)
    new, changes = (frame.join(given_up, on=BLOCK, how="anti") for frame in (new, changes))
    anchors = changes.filter("is_partial").select(*BLOCK, profile_key="anchors").explode("profile_key")
    left = members.join(dead, on=list(MEMBERS), how="anti")
    members = pl.concat([part.select(*MEMBERS) for part in (left, anchors, new)]).sort("profile_key")
    profile_keys, row = np.unique(members["profile_key"].to_numpy(), return_inverse=True)
    is_new = pl.col("profile_key").is_in(new["profile_key"].unique().implode())
    members = members.with_columns(row=pl.Series(row), is_new=is_new)
    of_rule, changes_of = (
        frame.partition_by("rule_id", as_dict=True, maintain_order=True)
        for frame in (members, changes.sort(BLOCK))
    )
    candidates = candidate_pairs(
        profile_keys,
        {
            rule: Members(*(frame[name].to_numpy() for name in Members.__dataclass_fields__))
            for (rule,), frame in of_rule.items()
        },
        limits,
        {
            rule: Changes(*(frame[name].to_numpy() for name in Changes.__dataclass_fields__))
            for (rule,), frame in changes_of.items()
        },
    )
    given_up = given_up.with_columns(
        profile_count=pl.col("profile_count") + pl.col("growth"),
        example=pl.lit(None, pl.Int64),
        is_afresh=pl.lit(False),
    )
    return replace(
        candidates,
        capped=pl.concat([candidates.capped, given_up.select(candidates.capped.columns)]),
        sizes=pl.concat([candidates.sizes, given_up.select(*SIZES)]),
    )


def candidate_pairs(
    profile_keys: np.ndarray,
    members: dict[int, Members],
    limits: dict[int, Limits],
    changes: dict[int, Changes] | None = None,
) -> Candidates:
    """The pairs of the blocks of each rule that have to be compared.

    profile_keys: sorted. members, limits, changes: by rule_id. changes: None where nothing was there before.
    """

    def of_rule(rule_id: int) -> tuple[np.ndarray, pl.DataFrame, pl.DataFrame]:
        left, right, blocks, anchors = _pair_blocks(
            members[rule_id], limits[rule_id], None if changes is None else changes[rule_id]
        )
        pair = left.astype(np.int64) * len(profile_keys)
        pair += right
        pair <<= RULE_BITS
        pair |= rule_id - 1
        sizes = pl.DataFrame(blocks, schema_overrides={"key": pl.Int64})
        sizes = sizes.select(pl.lit(rule_id, pl.Int16).alias("rule_id"), *blocks)
        return pair, _capped_blocks(rule_id, anchors, profile_keys), sizes

    found, capped, sizes, counts = [], [], [], {}
    with ThreadPoolExecutor(WORKERS) as pool:
        for rule_id, made in zip(sorted(members), pool.map(of_rule, sorted(members)), strict=True):
            found.append(made[0])
            capped.append(made[1])
            sizes.append(made[2])
            counts[rule_id] = len(made[0])
    coded = np.concatenate([np.empty(0, dtype=np.int64), *found])
    found.clear()
    coded.sort()
    return Candidates(
        profile_keys,
        coded,
        pl.concat([pl.DataFrame(schema=CAPPED | {"example": pl.Int64, "is_afresh": pl.Boolean}), *capped]),
        pl.concat([pl.DataFrame(schema=SIZES), *sizes]),
        counts,
    )


def _unite(profile_keys: np.ndarray, coded: np.ndarray) -> pl.DataFrame:
    """Each found pair once, with the bits of its rules and the first of them."""
    rule = (coded & ((1 << RULE_BITS) - 1)).astype(np.int8)
    pair = coded >> RULE_BITS
    first = np.flatnonzero(_begins(pair))
    bits = np.left_shift(1, rule, dtype=np.int32)
    pair, size = pair[first], max(len(profile_keys), 1)
    left = pair // size
    return pl.DataFrame(
        {
            "left_profile_key": profile_keys[left],
            "right_profile_key": profile_keys[pair - left * size],
            "rules": np.bitwise_or.reduceat(bits, first) if len(first) else bits,
            "rule_id": rule[first].astype(np.int16) + np.int16(1),
        },
        schema_overrides={"left_profile_key": pl.Int64, "right_profile_key": pl.Int64},
    )


def _begins(values: np.ndarray) -> np.ndarray:
    """Of sorted values: whether a value is the first of its kind."""
    return np.append(True, values[1:] != values[:-1])[: len(values)]


def _in_blocks(key: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Places in `key` of what shares its key with another, block by block and in order within it, and the number
    of its block."""
    # Not stable, but several times faster than a stable sort; the order within a block is made after.
    order = np.argsort(key)
    begins = _begins(key[order])
    is_alone = begins & np.append(begins[1:], True)[: len(begins)]
    order, block = order[~is_alone], np.cumsum(begins[~is_alone]) - 1
    place_bits = max(len(key), 1).bit_length()
    coded = np.sort(block << place_bits | order)
    return coded & ((1 << place_bits) - 1), coded >> place_bits


def _pair_blocks(members: Members, limits: Limits, changes: Changes | None) -> tuple:
    """Rows of the left and right sides of one rule's pairs, its blocks (key, profile_count), and its capped
    blocks (key, profile_count, the row of an anchor or of another member, whether it is an anchor, is_afresh)."""
    order, block = _in_blocks(members.key)
    row = members.row[order]
    first = np.flatnonzero(_begins(block))
    key = members.key[order[first]]
    here = np.diff(first, append=len(block))
    size, is_afresh = here, np.ones(len(first), dtype=bool)
    if changes is not None:
        known = np.searchsorted(changes.key, key)
        size = np.where(changes.is_partial[known], (changes.profile_count + changes.growth)[known], here)
        is_afresh = (size > limits.limit) != changes.was_capped[known]
        was_given_up = changes.was_capped[known] & (changes.anchor_limit[known] == SMALLEST)
        is_afresh |= (size > limits.give_up) != was_given_up
        is_afresh |= (size > limits.limit) & (changes.first_change[known] <= changes.anchor_limit[known])
    is_capped = size > limits.limit
    anchor_count = np.where(size > limits.give_up, 0, np.where(is_capped, ANCHORS, here))
    place = np.arange(len(block)) - first[block]
    partners = here[block] - 1 - place
    partners[place >= anchor_count[block]] = 0
    left = np.repeat(np.arange(len(block)), partners)
    right = left + 1 + np.arange(len(left)) - np.repeat(np.cumsum(partners) - partners, partners)
    if changes is not None and members.is_new is not None:
        is_new = members.is_new[order]
        kept = is_afresh[block[left]] | is_new[left] | is_new[right]
        left, right = left[kept], right[kept]
    shown = np.flatnonzero(is_capped[block] & (place < np.maximum(anchor_count, 1)[block]))
    capped = {
        "key": key[block[shown]],
        "profile_count": size[block[shown]],
        "member": row[shown],
        "is_anchor": place[shown] < anchor_count[block[shown]],
        "is_afresh": is_afresh[block[shown]],
    }
    return row[left], row[right], {"key": key, "profile_count": size}, capped


def _capped_blocks(rule_id: int, members: dict[str, np.ndarray], profile_keys: np.ndarray) -> pl.DataFrame:
    """One row per capped block, as CAPPED, with example and is_afresh, of one row per anchor, or one."""
    rows = pl.DataFrame(members | {"member": profile_keys[members["member"]]})
    anchors = pl.col("member").filter(pl.col("is_anchor"))
    return (
        rows.group_by("key", maintain_order=True)
        .agg(
            pl.col("profile_count").first(),
            anchors.last().fill_null(SMALLEST).alias("anchor_limit"),
            anchors.alias("anchors"),
            pl.col("member").first().alias("example"),
            pl.col("is_afresh").first(),
        )
        .select(
            pl.lit(rule_id, pl.Int16).alias("rule_id"),
            *(pl.col(name).cast(kind) for name, kind in CAPPED.items() if name != "rule_id"),
            pl.col("example").cast(pl.Int64),
            "is_afresh",
        )
    )


def pairs_in_blocks(pairs: pl.DataFrame, blocks: pl.DataFrame) -> pl.DataFrame:
    """One row per pair and block that both of its sides belong to: left_profile_key, right_profile_key, rule_id,
    key.

    pairs: left_profile_key, right_profile_key. blocks: as MEMBERS.
    """
    left, right = (blocks.select(*BLOCK, pl.col("profile_key").alias(side)) for side in PAIR)
    return pairs.join(left, on="left_profile_key").join(right, on=["right_profile_key", *BLOCK])


def unsupported(pairs: pl.DataFrame, shared: pl.DataFrame, capped: pl.DataFrame) -> pl.DataFrame:
    """Those of the pairs that no rule finds: in each block they share, the left one is past the anchors.

    shared: as `pairs_in_blocks` gives it, of all their blocks. capped: rule_id, key, anchor_limit of those blocks
    that are capped.
    """
    limits = shared.join(capped, on=BLOCK, how="left")
    is_found = pl.col("anchor_limit").is_null() | (pl.col("left_profile_key") <= pl.col("anchor_limit"))
    return pairs.join(limits.filter(is_found), on=PAIR, how="anti", maintain_order="left")
