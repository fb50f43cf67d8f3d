"""From blocks to pairs: literal blocks, and any order of coming and going against all at once."""

import random
from itertools import combinations

import numpy as np
import polars as pl
import pytest

from matching.candidate_pairs import (
    ANCHORS,
    BLOCK,
    CAPPED,
    MEMBERS,
    PAIR,
    SMALLEST,
    Limits,
    Members,
    block_changes,
    candidate_pairs,
    of_one_rule,
    pairs_in_blocks,
    pairs_of_changes,
    unsupported,
)


def all_at_once(keys: dict[int, dict[int, int]], limits: dict[int, Limits]):
    """The candidates of profiles (profile_key -> rule_id -> key), none of which was there before."""
    profile_keys = np.array(sorted(keys), dtype=np.int64)
    members = {}
    for rule_id in limits:
        rows = [row for row, profile_key in enumerate(profile_keys) if rule_id in keys[profile_key]]
        key = [keys[profile_keys[row]][rule_id] for row in rows]
        members[rule_id] = Members(np.array(key, dtype=np.int64), np.array(rows, dtype=np.int32))
    return candidate_pairs(profile_keys, members, limits)


def members_of(keys: dict[int, dict[int, int]]) -> pl.DataFrame:
    """One row per profile and rule: rule_id, key, profile_key."""
    rows = [
        (rule_id, key, profile_key) for profile_key, of in sorted(keys.items()) for rule_id, key in of.items()
    ]
    return pl.DataFrame(rows, schema=MEMBERS, orient="row")


def test_a_pair_is_found_once_with_the_bits_of_its_rules():
    found = all_at_once(
        {10: {1: 7, 3: 8}, 20: {1: 7, 3: 8}, 30: {3: 8}, 40: {1: 9}}, dict.fromkeys((1, 2, 3), Limits(9))
    )
    assert found.pairs.rows() == [(10, 20, 0b101, 1), (10, 30, 0b100, 3), (20, 30, 0b100, 3)]
    assert found.found == {1: 1, 2: 0, 3: 3}
    assert of_one_rule(found.pairs) == {3: 2}
    assert found.sizes.sort(BLOCK).rows() == [(1, 7, 2), (3, 8, 3)]
    assert found.capped.height == 0


def test_a_block_over_the_limit_pairs_its_smallest_with_all():
    found = all_at_once({profile_key: {2: 7} for profile_key in range(-3, 5)}, {2: Limits(7)})
    anchors = [-3, -2, -1, 0, 1]
    assert found.pairs.select(PAIR).rows() == [
        (left, right) for left, right in combinations(range(-3, 5), 2) if left in anchors
    ]
    assert found.capped.rows() == [(2, 7, 8, 1, anchors, -3, True)]


def test_a_block_past_where_its_rule_gives_up_has_no_pair_and_is_reported():
    found = all_at_once({profile_key: {2: 7} for profile_key in range(8)}, {2: Limits(3, 7)})
    assert found.pairs.height == 0
    assert found.capped.rows() == [(2, 7, 8, SMALLEST, [], 0, True)]


def test_nothing_is_no_pair():
    assert all_at_once({}, {1: Limits(2)}).pairs.height == 0
    assert candidate_pairs(np.array([], dtype=np.int64), {}, {1: Limits(2)}).pairs.schema == {
        "left_profile_key": pl.Int64,
        "right_profile_key": pl.Int64,
        "rules": pl.Int32,
        "rule_id": pl.Int16,
    }


def capped_block(profile_count: int, anchors: list[int] | None) -> pl.DataFrame:
    """Block 7 of rule 1 as it is known."""
    anchor_limit = SMALLEST if anchors == [] else 5
    return pl.DataFrame([(1, 7, profile_count, anchor_limit, anchors)], schema=CAPPED, orient="row")


def test_of_a_capped_block_that_stays_so_only_the_anchors_and_the_new_are_looked_at():
    new, none = members_of({9: {1: 7}}), members_of({})
    changes = block_changes(new, none, capped_block(8, [1, 2, 3, 4, 5]), {1: Limits(6, 10)})
    assert changes["is_partial"].to_list() == [True]
    found = pairs_of_changes(none, new, none, changes, {1: Limits(6, 10)})
    assert found.pairs.select(PAIR).rows() == [(anchor, 9) for anchor in range(1, 6)]
    assert found.capped.rows() == [(1, 7, 9, 5, [1, 2, 3, 4, 5], 1, False)]


@pytest.mark.parametrize(
    ("new", "dead", "count"),
    [({9: {1: 7}}, {}, 13), ({}, {3: {1: 7}}, 11)],
    ids=["one more", "one less"],
)
def test_a_block_that_stays_given_up_is_only_counted(new, dead, count):
    came, gone, none = members_of(new), members_of(dead), members_of({})
    changes = block_changes(came, gone, capped_block(12, []), {1: Limits(6, 10)})
    assert changes["is_partial"].to_list() == [True]
    found = pairs_of_changes(none, came, gone, changes, {1: Limits(6, 10)})
    assert found.pairs.height == 0
    assert found.capped.rows() == [(1, 7, count, SMALLEST, [], None, False)]
    assert found.sizes.rows() == [(1, 7, count)]


@pytest.mark.parametrize(
    ("new", "dead", "known"),
    [
        ({0: {1: 7}}, {}, capped_block(8, [1, 2, 3, 4, 5])),
        ({}, {3: {1: 7}}, capped_block(8, [1, 2, 3, 4, 5])),
        ({}, {8: {1: 7}, 9: {1: 7}}, capped_block(8, [1, 2, 3, 4, 5])),
        ({9: {1: 7}}, {}, capped_block(8, None)),
        ({9: {1: 7}}, {}, capped_block(10, [1, 2, 3, 4, 5])),
        ({}, {9: {1: 7}}, capped_block(11, [])),
    ],
    ids=[
        "a new anchor",
        "a dead anchor",
        "under the limit",
        "anchors unknown",
        "given up",
        "given up no more",
    ],
)
def test_a_block_of_another_shape_is_read_whole(new, dead, known):
    changes = block_changes(members_of(new), members_of(dead), known, {1: Limits(6, 10)})
    assert changes["is_partial"].to_list() == [False]


def test_a_block_whose_anchors_are_unknown_is_paired_afresh():
    people = {profile_key: {1: 7} for profile_key in range(1, 9)}
    new, none = members_of({9: {1: 7}}), members_of({})
    for limit in (6, 9):
        changes = block_changes(new, none, capped_block(12, None), {1: Limits(limit)})
        found = pairs_of_changes(members_of(people), new, none, changes, {1: Limits(limit)})
        assert found.pairs.equals(all_at_once(people | {9: {1: 7}}, {1: Limits(limit)}).pairs)


class Store:
    """What the database keeps between runs."""

    def __init__(self, limits: dict[int, Limits]):
        self.limits = limits
        self.keys: dict[int, dict[int, int]] = {}
        self.capped = pl.DataFrame(schema=CAPPED)
        self.in_force: set[tuple[int, int]] = set()

    def run(self, new: dict[int, dict[int, int]], dead: set[int]) -> None:
        """One run: some profiles come, some go."""
        before = members_of(self.keys)
        gone = members_of({profile_key: self.keys.pop(profile_key) for profile_key in dead})
        self.in_force = {pair for pair in self.in_force if dead.isdisjoint(pair)}
        self.keys |= new
        came = members_of(new)
        changes = block_changes(came, gone, self.capped, self.limits)
        members = before.join(changes.filter(~pl.col("is_partial")), on=BLOCK, how="semi")
        found = pairs_of_changes(members, came, gone, changes, self.limits)
        self.capped = pl.concat(
            [self.capped.join(changes, on=BLOCK, how="anti"), found.capped.select(*CAPPED)]
        )
        self.in_force |= set(found.pairs.select(PAIR).iter_rows())
        reshaped = members.join(found.capped.filter("is_afresh"), on=BLOCK)
        reshaped = reshaped.filter(pl.col("profile_key") > pl.col("anchor_limit"))
        compared = pl.DataFrame(sorted(self.in_force), schema=dict.fromkeys(PAIR, pl.Int64), orient="row")
        pairs = pairs_in_blocks(compared, reshaped).select(PAIR).unique()
        shared = pairs_in_blocks(pairs, members_of(self.keys))
        self.in_force -= set(unsupported(pairs, shared, self.capped).iter_rows())


@pytest.mark.parametrize("seed", range(40))
def test_any_order_of_coming_and_going_ends_with_the_pairs_of_all_at_once(seed):
    draw = random.Random(seed)
    limits = {1: Limits(draw.randint(2, 12)), 2: Limits(low := draw.randint(2, 12), low + draw.randint(0, 9))}
    limits[5] = Limits(3, 5)
    store = Store(limits)
    for _ in range(draw.randint(2, 8)):
        dead = set(draw.sample(sorted(store.keys), draw.randint(0, len(store.keys) // 3)))
        free = sorted(set(range(-40, 40)) - set(store.keys))
        new = {
            profile_key: {rule_id: draw.randint(1, 4) for rule_id in limits if draw.random() < 0.7}
            for profile_key in draw.sample(free, draw.randint(0, 15))
        }
        store.run(new, dead)
        at_once = all_at_once(store.keys, limits)
        assert store.in_force == set(at_once.pairs.select(PAIR).iter_rows())
        columns = list(CAPPED)
        assert store.capped.sort(BLOCK).equals(at_once.capped.select(columns).sort(BLOCK))


@pytest.mark.parametrize("seed", range(10))
def test_pairs_and_rules_are_those_of_a_loop_over_all_pairs(seed, monkeypatch):
    draw = random.Random(seed)
    monkeypatch.setattr("matching.candidate_pairs.PART", draw.choice((1, 2, 7, 10_000)))
    limits = {
        rule_id: Limits(low := draw.randint(2, 20), low + draw.randint(0, 20)) for rule_id in range(1, 32)
    }
    keys = {
        draw.randrange(-(2**63), 2**63): {
            rule_id: draw.randint(-3, 3) for rule_id in limits if draw.random() < 0.5
        }
        for _ in range(60)
    }
    blocks: dict[tuple[int, int], list[int]] = {}
    for profile_key in sorted(keys):
        for rule_id, key in keys[profile_key].items():
            blocks.setdefault((rule_id, key), []).append(profile_key)
    expected: dict[tuple[int, int], int] = {}
    for (rule_id, _), block in blocks.items():
        last = len(block)
        if last > limits[rule_id].limit:
            last = ANCHORS if last <= limits[rule_id].give_up else 0
        for place, left in enumerate(block[:last]):
            for right in block[place + 1 :]:
                expected[left, right] = expected.get((left, right), 0) | 1 << (rule_id - 1)
    assert all_at_once(keys, limits).pairs.rows() == [
        (left, right, rules, (rules & -rules).bit_length())
        for (left, right), rules in sorted(expected.items())
    ]
