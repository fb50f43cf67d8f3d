"""From blocks of profiles to candidate pairs: a pure function of columns, no database in it.

1. A block is the profiles that have a key in common under one blocking rule. All with all are paired, as far as
   one of the two is new or the block is to be paired afresh.
2. A block of more profiles than the rule's limit is capped: everyone in it is paired with its anchors only, the
   few smallest profile keys, so that its pairs grow with its size and not with the square.
3. A block that crossed the limit, or whose anchors changed, is paired afresh. So the pairs in force depend on the
   profiles there are, and not on the order in which they came.
4. A pair that several rules find is one pair, with all of them.

Memory: 13 bytes per member of a block, and per found pair 12 bytes for each rule that finds it.
"""

from dataclasses import dataclass

import numpy as np
import polars as pl

# A block over its rule's limit pairs everybody with this many of its profiles.
ANCHORS = 5
MEMBERS = {"rule_id": pl.Int16, "key": pl.Int64, "profile_key": pl.Int64}
CAPPED = {
    "rule_id": pl.Int16,
    "key": pl.Int64,
    "profile_count": pl.Int64,
    "anchor_limit": pl.Int64,
    "anchors": pl.List(pl.Int64),
}
BLOCK = ["rule_id", "key"]


@dataclass(frozen=True)
class Candidates:
    """pairs: left_profile_key, right_profile_key, rules, rule_id; in order of the keys.

    capped: the capped blocks among those looked at, as CAPPED, and is_afresh. found: rule_id -> pairs it found.
    """

    pairs: pl.DataFrame
    capped: pl.DataFrame
    found: dict[int, int]

    def only_here(self) -> dict[int, int]:
        """rule_id -> pairs that no other rule found."""
        alone = self.pairs.filter(pl.col("rules").bitwise_count_ones() == 1)
        return dict(alone["rule_id"].value_counts().iter_rows())


@dataclass(frozen=True)
class Members:
    """The members of a rule's blocks: their key, their row among the sorted profile keys, whether they are new.

    In order of the rows.
    """

    key: np.ndarray
    row: np.ndarray
    is_new: np.ndarray


@dataclass(frozen=True)
class Changes:
    """Of a rule's changed blocks, in order of the key: by how much they grew, and what was known of them.

    first_change: the smallest profile key that came or went; up to anchor_limit it is one of the anchors.
    is_partial: of a capped block only the anchors and what is new are among the members, as nothing else is
    needed; profile_count tells how many there were.
    """

    key: np.ndarray
    growth: np.ndarray
    first_change: np.ndarray
    anchor_limit: np.ndarray
    profile_count: np.ndarray
    is_partial: np.ndarray


def block_changes(new: pl.DataFrame, dead: pl.DataFrame, capped: pl.DataFrame, limits: dict[int, int]):
    """One row per block that profiles came to or went from: rule_id, key, growth, first_change (the smallest
    profile_key that came or went), what was known of it where it was capped, and is_partial.

    new, dead: as MEMBERS. capped: as CAPPED, blocks that were capped before.
    """
    changes = pl.concat([new.with_columns(change=pl.lit(1)), dead.with_columns(change=pl.lit(-1))])
    limit = pl.col("rule_id").replace_strict(limits, return_dtype=pl.Int64)
    return (
        changes.group_by(BLOCK)
        .agg(growth=pl.col("change").sum().cast(pl.Int64), first_change=pl.col("profile_key").min())
        .join(capped, on=BLOCK, how="left")
        .with_columns(
            # It stays capped, with the same anchors.
            is_partial=(
                pl.col("anchors").is_not_null()
                & (pl.col("profile_count") + pl.col("growth") > limit)
                & (pl.col("first_change") > pl.col("anchor_limit"))
            ).fill_null(False)
        )
        .sort(BLOCK)
    )


def pairs_of_changes(
    members: pl.DataFrame, new: pl.DataFrame, changes: pl.DataFrame, limits: dict[int, int]
) -> Candidates:
    """The pairs of changed blocks that have to be compared.

    changes: as `block_changes` gives it. members: as MEMBERS, all there are of its blocks that are not partial.
    new: as MEMBERS, what came.
    """
    anchors = changes.filter("is_partial").select(*BLOCK, profile_key="anchors").explode("profile_key")
    members = (
        pl.concat([part.select(*MEMBERS) for part in (members, anchors, new)])
        .unique()
        .join(new.with_columns(is_new=pl.lit(True)), on=list(MEMBERS), how="left")
        .sort("profile_key", "rule_id")
    )
    profile_keys, row = np.unique(members["profile_key"].to_numpy(), return_inverse=True)

    members = members.with_columns(row=pl.Series(row), is_new=pl.col("is_new").fill_null(False))
    # No change is below the smallest number there is.
    changes = changes.with_columns(
        pl.col("profile_count").fill_null(-1), pl.col("anchor_limit").fill_null(np.iinfo(np.int64).min)
    )
    of_rule, changes_of = (
        frame.partition_by("rule_id", as_dict=True, maintain_order=True) for frame in (members, changes)
    )
    return candidate_pairs(
        profile_keys,
        {
            rule: Members(*(frame[name].to_numpy() for name in ("key", "row", "is_new")))
            for (rule,), frame in of_rule.items()
        },
        limits,
        {
            rule: Changes(*(frame[name].to_numpy() for name in Changes.__dataclass_fields__))
            for (rule,), frame in changes_of.items()
        },
    )


def candidate_pairs(
    profile_keys: np.ndarray,
    members: dict[int, Members],
    limits: dict[int, int],
    changes: dict[int, Changes] | None = None,
) -> Candidates:
    """The pairs of the blocks of each rule that have to be compared.

    profile_keys: sorted. members, limits, changes: by rule_id. changes: None where nothing was there before.
    """
    coded, capped, found = [], [], {}
    for rule_id, of_rule in sorted(members.items()):
        left, right, blocks = _pair_blocks(of_rule, limits[rule_id], changes and changes[rule_id])
        found[rule_id] = len(left)
        coded.append(
            pl.DataFrame({"pair": left.astype(np.int64) * len(profile_keys) + right}).with_columns(
                rules=pl.lit(1 << (rule_id - 1), pl.Int32)
            )
        )
        capped.append(_capped_blocks(rule_id, blocks, profile_keys))
    empty = pl.DataFrame(schema={"pair": pl.Int64, "rules": pl.Int32})
    # A rule finds a pair once, so the sum of its bits is their union.
    united = pl.concat([empty, *coded]).group_by("pair").agg(pl.col("rules").sum()).sort("pair")
    pair = united["pair"].to_numpy()
    size = max(len(profile_keys), 1)
    pairs = pl.DataFrame(
        {
            "left_profile_key": profile_keys[pair // size],
            "right_profile_key": profile_keys[pair % size],
            "rules": united["rules"],
            "rule_id": united["rules"].bitwise_trailing_zeros().cast(pl.Int16) + 1,
        },
        schema_overrides={"left_profile_key": pl.Int64, "right_profile_key": pl.Int64},
    )
    nothing = pl.DataFrame(schema=CAPPED | {"is_afresh": pl.Boolean})
    return Candidates(pairs, pl.concat([nothing, *capped]), found)


def _pair_blocks(members: Members, limit: int, changes: Changes | None) -> tuple:
    """Rows of the left and right sides of one rule's pairs, and its capped blocks (key, size, rows of the
    anchors, whether they are paired afresh)."""
    order = np.argsort(members.key, kind="stable")
    key, row, is_new = members.key[order], members.row[order], members.is_new[order]
    begins = np.append(True, key[1:] != key[:-1])[: len(key)]
    first = np.flatnonzero(begins)
    block = np.cumsum(begins) - 1
    here = np.diff(first, append=len(key))
    size, is_afresh = here, np.ones(len(first), dtype=bool)
    if changes is not None:
        known = np.searchsorted(changes.key, key[first])
        size = np.where(changes.is_partial[known], (changes.profile_count + changes.growth)[known], here)
        is_afresh = (size > limit) != (size - changes.growth[known] > limit)
        is_afresh |= (size > limit) & (changes.first_change[known] <= changes.anchor_limit[known])
    is_capped = size > limit
    place = np.arange(len(key)) - first[block]
    partners = here[block] - 1 - place
    partners[is_capped[block] & (place >= ANCHORS)] = 0
    left = np.repeat(np.arange(len(key)), partners)
    right = left + 1 + np.arange(len(left)) - np.repeat(np.cumsum(partners) - partners, partners)
    if changes is not None:
        kept = is_afresh[block[left]] | is_new[left] | is_new[right]
        left, right = left[kept], right[kept]
    anchors = np.flatnonzero(is_capped[block] & (place < ANCHORS))
    capped = {
        "key": key[anchors],
        "profile_count": size[block[anchors]],
        "anchor": row[anchors],
        "is_afresh": is_afresh[block[anchors]],
    }
    return row[left], row[right], capped


def _capped_blocks(rule_id: int, anchors: dict[str, np.ndarray], profile_keys: np.ndarray) -> pl.DataFrame:
    """One row per capped block, as CAPPED and is_afresh, of one row per anchor."""
    rows = pl.DataFrame(anchors | {"anchor": profile_keys[anchors["anchor"]]})
    return (
        rows.group_by("key", maintain_order=True)
        .agg(
            pl.col("profile_count").first(),
            pl.col("anchor").last().alias("anchor_limit"),
            pl.col("anchor").alias("anchors"),
            pl.col("is_afresh").first(),
        )
        .select(
            pl.lit(rule_id, pl.Int16).alias("rule_id"),
            *(pl.col(name).cast(kind) for name, kind in CAPPED.items() if name != "rule_id"),
            "is_afresh",
        )
    )
