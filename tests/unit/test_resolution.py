"""Clusters of records from links, evidence and stewards' decisions, on literal rows and against networkx."""

import networkx
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from identity.resolution import resolve

LINKS = {
    "left_profile_key": pl.Int64,
    "right_profile_key": pl.Int64,
    "match_weight": pl.Float32,
    "total_confidence_score": pl.Float32,
}
TRAITS = {"profile_key": pl.Int64, "birth_date": pl.String, "national_id": pl.String}
OWN = {"profile_key": pl.Int64, "is_one_person": pl.Boolean, "total_confidence_score": pl.Float32}
DECISIONS = {"decision_id": pl.Int64, "judgement": pl.String, "record_key": pl.Int64, "side": pl.Int32}
MERGE_WEIGHT = 3.17  # log2 odds of probability 0.9


def resolved(records, links=(), evidence=(), decisions=(), own=None, born=None):
    """resolve() on rows: records {record: profile}, links and evidence (left, right, weight).

    own: profile -> (is_one_person, confidence) of a profile with itself. born: profile -> birth date.
    """
    return resolve(
        pl.DataFrame(
            list(records.items()), schema={"record_key": pl.Int64, "profile_key": pl.Int64}, orient="row"
        ),
        pl.DataFrame([(key, *said) for key, said in (own or {}).items()], schema=OWN, orient="row"),
        pl.DataFrame([(key, day, None) for key, day in (born or {}).items()], schema=TRAITS, orient="row"),
        pl.DataFrame([(*link, 99.0) for link in links], schema=LINKS, orient="row"),
        pl.DataFrame(
            list(evidence),
            schema={name: LINKS[name] for name in list(LINKS)[:3]},
            orient="row",
        ),
        pl.DataFrame(list(decisions), schema=DECISIONS, orient="row"),
        MERGE_WEIGHT,
    )


def clusters(resolution) -> set[frozenset[int]]:
    """The partition of the records."""
    return {
        frozenset(members)
        for (members,) in resolution.records.group_by("cluster").agg("record_key").select("record_key").rows()
    }


def refusals(resolution) -> list[tuple]:
    return sorted(resolution.refused.drop("match_weight").rows())


def parts(*each) -> set[frozenset[int]]:
    return {frozenset(part) for part in each}


def test_links_join_and_a_record_without_any_is_alone():
    found = resolved({1: 10, 2: 20, 3: 30, 4: 40}, [(10, 20, 8.0), (20, 30, 5.0)])
    assert clusters(found) == parts([1, 2, 3], [4])
    assert refusals(found) == []
    said = found.records.sort("record_key").select("record_key", "assigned_by", "match_confidence").rows()
    assert said == [(1, "link", 99.0), (2, "link", 99.0), (3, "link", 99.0), (4, "alone", 100.0)]


def test_equal_records_are_one_unless_the_model_cannot_tell():
    records = {1: 10, 2: 10, 3: 20, 4: 20}
    found = resolved(records, own={10: (True, 98.0), 20: (False, 40.0)})
    assert clusters(found) == parts([1, 2], [3], [4])
    said = dict(found.records.select("record_key", "assigned_by").rows())
    assert said == {1: "same_profile", 2: "same_profile", 3: "alone", 4: "alone"}


def test_records_of_a_profile_are_as_different_as_those_they_are_the_same_as():
    records = {1: 10, 2: 20, 3: 30, 4: 30}
    said = [(1, "different", 1, 1), (1, "different", 2, 2)]
    said += [(2, "same", 1, 1), (2, "same", 3, 2), (3, "same", 2, 1), (3, "same", 4, 2)]
    assert clusters(resolved(records, decisions=said, own={30: (True, 98.0)})) == parts([1, 3], [2, 4])
    one_profile = dict.fromkeys(records, 10)
    assert clusters(resolved(one_profile, decisions=said, own={10: (True, 98.0)})) == parts([1, 3], [2, 4])


def test_two_crowds_on_one_weak_link_stay_two_and_the_link_is_refused():
    strong = [(10, 20, 12.0), (40, 50, 12.0)]
    against = [(10, 40, -9.0), (10, 50, -9.0), (20, 50, -9.0)]
    found = resolved({1: 10, 2: 20, 4: 40, 5: 50}, [*strong, (20, 40, 3.5)], against)
    assert clusters(found) == parts([1, 2], [4, 5])
    assert refusals(found) == [(20, 40, "weak_group_evidence")]


def test_dates_of_birth_that_no_typo_explains_stay_apart_through_a_third():
    found = resolved(
        {1: 10, 2: 20, 3: 30},
        [(10, 20, 9.0), (20, 30, 8.0)],
        born={10: "1950-11-27", 30: "1987-02-08"},
    )
    assert clusters(found) == parts([1, 2], [3])
    assert refusals(found) == [(20, 30, "birth_date")]


def test_a_steward_says_different_and_a_third_record_chains_in_vain():
    found = resolved(
        {1: 10, 2: 20, 3: 30},
        [(10, 20, 15.0), (10, 30, 15.0), (20, 30, 14.0)],
        decisions=[(7, "different", 1, 1), (7, "different", 2, 2)],
    )
    assert clusters(found) == parts([1, 3], [2])
    assert refusals(found) == [(10, 20, "steward_different"), (20, 30, "steward_different")]


def test_a_steward_takes_equal_records_apart():
    records = {1: 10, 2: 10, 3: 10}
    decisions = [(7, "different", 1, 1), (7, "different", 2, 2)]
    found = resolved(records, own={10: (True, 98.0)}, decisions=decisions)
    assert len(clusters(found)) == 2
    assert not any({1, 2} <= cluster for cluster in clusters(found))
    assert refusals(found) == [], "not a link between two profiles"


def test_a_steward_says_same_against_all_evidence():
    found = resolved(
        {1: 10, 2: 20, 3: 30},
        evidence=[(10, 20, -20.0), (20, 30, -20.0)],
        decisions=[(7, "same", record, 1) for record in (1, 2, 3)],
        born={10: "1950-11-27", 20: "1987-02-08"},
    )
    assert clusters(found) == parts([1, 2, 3])
    assert set(found.records["assigned_by"]) == {"steward"}


def test_decisions_about_records_that_are_gone_say_nothing():
    found = resolved({1: 10}, decisions=[(7, "same", 1, 1), (7, "same", 99, 1), (8, "different", 98, 2)])
    assert clusters(found) == parts([1])


def test_pairs_of_profiles_that_are_gone_say_nothing():
    found = resolved({1: 10, 2: 20}, [(10, 20, 9.0), (20, 99, 9.0)], [(5, 10, -9.0)])
    assert clusters(found) == parts([1, 2])
    assert refusals(found) == []


def test_nothing_in_nothing_out():
    found = resolved({})
    assert found.records.height == 0 and found.refused.height == 0


pairs = st.tuples(st.integers(0, 30), st.integers(0, 30)).filter(lambda pair: pair[0] < pair[1])


@settings(deadline=None, max_examples=60)
@given(st.sets(pairs, max_size=40), st.randoms(use_true_random=False))
def test_where_nothing_is_refused_clusters_are_connected_components(edges, shuffler):
    graph = networkx.Graph(edges)
    graph.add_nodes_from(range(31))
    rows = [(left, right, 6.0) for left, right in edges]
    shuffler.shuffle(rows)
    found = resolved({1000 + profile: profile for profile in range(31)}, rows)
    assert clusters(found) == {
        frozenset(1000 + profile for profile in component)
        for component in networkx.connected_components(graph)
    }
    assert refusals(found) == []


weighted = st.dictionaries(pairs, st.integers(-150, 150).map(lambda tenths: tenths / 10), max_size=60)


@settings(deadline=None, max_examples=60)
@given(weighted, st.dictionaries(st.integers(0, 30), st.sampled_from(["1950-11-27", "1987-02-08"])))
@pytest.mark.parametrize("reverse", [False, True])
def test_a_component_alone_ends_as_in_the_whole(reverse, weights, born):
    """Clustering only what is touched gives what clustering everything gives, in any order of rows."""

    def split(profiles):
        inside = {pair: weight for pair, weight in weights.items() if set(pair) <= profiles}
        links = [(*pair, weight) for pair, weight in inside.items() if weight >= MERGE_WEIGHT]
        evidence = [(*pair, weight) for pair, weight in inside.items() if weight < MERGE_WEIGHT]
        if reverse:
            links, evidence = links[::-1], evidence[::-1]
        found = resolved({profile: profile for profile in sorted(profiles)}, links, evidence, born=born)
        return clusters(found), refusals(found)

    everything = set(range(31))
    graph = networkx.Graph([pair for pair, weight in weights.items() if weight >= MERGE_WEIGHT])
    graph.add_nodes_from(everything)
    whole_clusters, whole_refusals = split(everything)
    alone = [split(set(component)) for component in networkx.connected_components(graph)]
    assert whole_clusters == set().union(*(part for part, _ in alone))
    assert whole_refusals == sorted(row for _, rows in alone for row in rows)
