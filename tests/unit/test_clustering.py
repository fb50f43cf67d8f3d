"""Clusters as stories of literal rows, against networkx where nothing is refused, and part by part."""

from dataclasses import dataclass
from datetime import date

import networkx as nx
import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from identity import clustering

SCHEMA = {"left_key": pl.Int64, "right_key": pl.Int64, "match_weight": pl.Float64}


def nodes_of(*keys: int, national_id: dict | None = None, birth_date: dict | None = None) -> pl.DataFrame:
    return pl.DataFrame(
        {
            "node": list(keys),
            "national_id": [(national_id or {}).get(key) for key in keys],
            "birth_date": [(birth_date or {}).get(key) for key in keys],
        },
        schema={"node": pl.Int64, "national_id": pl.String, "birth_date": pl.Date},
    )


@dataclass(frozen=True)
class Result:
    """assignments: node, cluster. refused: left_key, right_key, match_weight, reason."""

    assignments: pl.DataFrame
    refused: pl.DataFrame


def cluster(nodes, links, evidence, forced=None, different=None) -> Result:
    """clustering.cluster of nodes in any order and named by any keys."""
    nodes = nodes.sort("node")
    keys = nodes["node"].to_list()
    number = {key: place for place, key in enumerate(keys)}

    def numbered(pairs: pl.DataFrame | None) -> clustering.Pairs:
        if pairs is None:
            return clustering.NO_PAIRS
        left, right = (
            np.array([number[key] for key in pairs[side]], np.int32) for side in ("left_key", "right_key")
        )
        weight = (
            pairs["match_weight"].to_numpy() if "match_weight" in pairs.columns else np.full(len(left), 20.0)
        )
        return clustering.Pairs.of(left, right, weight)

    found = clustering.cluster(
        len(keys),
        numbered(links),
        numbered(evidence),
        numbered(forced),
        None if different is None else different.with_columns(pl.col("node").replace_strict(number)),
        nodes.with_columns(pl.col("node").replace_strict(number)) if keys else None,
    )
    return Result(
        pl.DataFrame({"node": keys, "cluster": [keys[first] for first in found.label]}),
        links[found.refused].with_columns(reason=pl.Series(found.reasons, dtype=pl.String)),
    )


def pairs_of(*rows: tuple[int, int, float]) -> pl.DataFrame:
    return pl.DataFrame(list(rows), schema=SCHEMA, orient="row")


def different_of(*rows: tuple[int, int, int]) -> pl.DataFrame:
    schema = {"decision_id": pl.Int64, "node": pl.Int64, "side": pl.Int64}
    return pl.DataFrame(list(rows), schema=schema, orient="row")


def parts(result) -> set[frozenset[int]]:
    grouped = result.assignments.group_by("cluster").agg("node")
    return {frozenset(members) for members in grouped["node"].to_list()}


def sets(*groups: list[int]) -> set[frozenset[int]]:
    return {frozenset(group) for group in groups}


def test_links_make_clusters_and_singletons_stay():
    result = cluster(nodes_of(1, 2, 3, 4), pairs_of((1, 2, 8.0), (2, 3, 8.0)), pairs_of())
    assert parts(result) == sets([1, 2, 3], [4])
    assert result.assignments.filter(pl.col("node") == 3)["cluster"].item() == 1
    assert result.refused.height == 0


def test_nothing_at_all():
    assert cluster(nodes_of(), pairs_of(), pairs_of()).assignments.height == 0


def test_a_chain_through_one_weak_link_is_cut():
    crowd, other = [1, 2, 3], [7, 8, 9]
    links = [(a, b, 15.0) for group in (crowd, other) for a in group for b in group if a < b]
    evidence = [(a, b, -10.0) for a in crowd for b in other if (a, b) != (3, 7)]
    result = cluster(nodes_of(*crowd, *other), pairs_of(*links, (3, 7, 4.0)), pairs_of(*evidence))
    assert parts(result) == sets(crowd, other)
    assert result.refused.rows() == [(3, 7, 4.0, "weak_group_evidence")]


def test_a_household_on_one_phone_stays_two_people():
    # 1, 2: Ann. 4, 5: William. 3: the phone alone, which leans to both.
    links = pairs_of((1, 2, 18.0), (4, 5, 18.0), (1, 3, 5.0), (3, 4, 5.0))
    result = cluster(nodes_of(1, 2, 3, 4, 5), links, pairs_of((1, 4, -6.0), (1, 5, -6.0), (2, 4, -6.0)))
    assert parts(result) == sets([1, 2, 3], [4, 5])


def test_a_shared_mailbox_does_not_join_two_national_ids():
    ids = {1: "7577439", 2: "7577439", 4: "1234567", 5: "1234567"}
    links = pairs_of((1, 2, 18.0), (4, 5, 18.0), (2, 3, 6.0), (3, 4, 6.0))
    result = cluster(nodes_of(1, 2, 3, 4, 5, national_id=ids), links, pairs_of())
    assert parts(result) == sets([1, 2, 3], [4, 5])
    assert result.refused["reason"].to_list() == ["national_id"]


def test_a_junk_phone_does_not_glue_strangers():
    strangers = range(10, 20)
    links = pairs_of(*[(1, stranger, 4.0) for stranger in strangers])
    evidence = [(a, b, -12.0) for a in strangers for b in strangers if a < b]
    result = cluster(nodes_of(1, *strangers), links, pairs_of(*evidence))
    assert max(len(part) for part in parts(result)) == 2


def test_birth_dates_that_cannot_be_typos_stay_apart_and_typos_do_not():
    dates = {1: date(1980, 3, 14), 3: date(1980, 3, 19), 5: date(1931, 12, 2)}
    links = pairs_of((1, 2, 9.0), (2, 3, 8.0), (2, 5, 7.0))
    result = cluster(nodes_of(1, 2, 3, 5, birth_date=dates), links, pairs_of())
    assert parts(result) == sets([1, 2, 3], [5])
    assert result.refused.rows() == [(2, 5, 7.0, "birth_date")]


def test_a_link_that_weighed_the_difference_itself_stands():
    ids = {1: "7577439", 2: "1234567"}
    result = cluster(nodes_of(1, 2, national_id=ids), pairs_of((1, 2, 25.0)), pairs_of())
    assert parts(result) == sets([1, 2])


def test_a_misspelling_of_a_weighed_difference_stands_too():
    links = pairs_of((1, 2, 25.0), (2, 3, 25.0))

    def joined(third_id: str) -> set[frozenset[int]]:
        ids = {1: "4216940", 2: "5752610", 3: third_id}
        return parts(cluster(nodes_of(1, 2, 3, national_id=ids), links, pairs_of()))

    assert joined("5752601") == sets([1, 2, 3])
    assert joined("9988001") == sets([1, 2], [3])


def test_a_steward_keeps_two_sides_apart():
    links = pairs_of((1, 2, 20.0), (2, 3, 15.0))
    result = cluster(nodes_of(1, 2, 3), links, pairs_of(), different=different_of((7, 1, 0), (7, 3, 1)))
    assert parts(result) == sets([1, 2], [3])
    assert result.refused.rows() == [(2, 3, 15.0, "steward_different")]


def test_a_steward_joins_against_all_evidence():
    forced = pl.DataFrame({"left_key": [1], "right_key": [2]})
    ids = {1: "7577439", 2: "1234567"}
    result = cluster(nodes_of(1, 2, national_id=ids), pairs_of(), pairs_of((1, 2, -20.0)), forced=forced)
    assert parts(result) == sets([1, 2])


def test_different_is_above_same():
    forced = pl.DataFrame({"left_key": [1, 2], "right_key": [2, 3]})
    result = cluster(
        nodes_of(1, 2, 3), pairs_of(), pairs_of(), forced=forced, different=different_of((7, 1, 0), (7, 3, 1))
    )
    assert parts(result) == sets([1, 2], [3])


graphs = st.lists(st.tuples(st.integers(1, 14), st.integers(1, 14), st.integers(-20, 20)), max_size=40).map(
    lambda rows: {(min(a, b), max(a, b)): float(weight) for a, b, weight in rows if a != b}
)


def split(weights: dict, kept: set | None = None) -> tuple[pl.DataFrame, pl.DataFrame]:
    rows = [(*pair, weight) for pair, weight in sorted(weights.items()) if not kept or set(pair) <= kept]
    links = [row for row in rows if row[2] >= 4]
    return pairs_of(*links), pairs_of(*[row for row in rows if row[2] < 4])


@settings(max_examples=100, deadline=None)
@given(graphs)
def test_without_evidence_against_it_clusters_are_connected_components(weights):
    links, _ = split(weights)
    graph = nx.Graph()
    graph.add_nodes_from(range(1, 15))
    graph.add_edges_from(links.select("left_key", "right_key").rows())
    result = cluster(nodes_of(*range(1, 15)), links, pairs_of())
    assert parts(result) == {frozenset(part) for part in nx.connected_components(graph)}


@settings(max_examples=100, deadline=None)
@given(graphs, st.randoms(use_true_random=False))
def test_the_order_of_rows_does_not_matter(weights, random):
    keys = list(range(1, 15))
    links, evidence = split(weights)
    expected = cluster(nodes_of(*keys), links, evidence)
    random.shuffle(keys)
    seed = random.randint(0, 1000)
    shuffled = [frame.sample(fraction=1, shuffle=True, seed=seed) for frame in (links, evidence)]
    assert parts(cluster(nodes_of(*keys), *shuffled)) == parts(expected)


@settings(max_examples=100, deadline=None)
@given(graphs, st.dictionaries(st.integers(1, 14), st.sampled_from(["7577439", "1234567"])))
def test_a_component_alone_gives_what_the_whole_gives(weights, ids):
    links, evidence = split(weights)
    whole = parts(cluster(nodes_of(*range(1, 15), national_id=ids), links, evidence))
    graph = nx.Graph(links.select("left_key", "right_key").rows())
    for component in nx.connected_components(graph):
        alone = cluster(nodes_of(*sorted(component), national_id=ids), *split(weights, component))
        assert parts(alone) == {part for part in whole if part & component}


@settings(max_examples=100, deadline=None)
@given(graphs, st.lists(st.tuples(st.integers(0, 2), st.integers(1, 14), st.integers(0, 1)), max_size=8))
def test_no_cluster_holds_both_sides_of_a_decision(weights, rows):
    links, evidence = split(weights)
    one_side = {(decision, node): side for decision, node, side in rows}
    decisions = [(decision, node, side) for (decision, node), side in one_side.items()]
    result = cluster(nodes_of(*range(1, 15)), links, evidence, different=different_of(*decisions))
    for part in parts(result):
        for decision in {row[0] for row in decisions}:
            assert len({side for d, node, side in decisions if d == decision and node in part}) <= 1


@settings(max_examples=200, deadline=None)
@given(graphs)
def test_components_side_by_side_end_as_one_by_one(weights):
    keys = list(range(1, 15))
    at_once = cluster(nodes_of(*keys), *split(weights))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(clustering, "SMALL", 0)
        one_by_one = cluster(nodes_of(*keys), *split(weights))
    assert at_once.assignments.equals(one_by_one.assignments)
    assert at_once.refused.equals(one_by_one.refused)


@pytest.mark.parametrize("direction", [1, -1])
def test_ties_go_to_the_smallest_node(direction):
    links = pairs_of(*[(1, 2, 5.0), (2, 3, 5.0)][::direction])
    result = cluster(nodes_of(1, 2, 3), links, pairs_of((1, 3, -9.0)))
    assert parts(result) == sets([1, 2], [3])
