"""Clusters take over the ids their records had: literal rows in, literal customers out."""

from itertools import pairwise

import polars as pl

from identity.assignment import (
    LARGE_CUSTOMER,
    assign,
    changed_customers,
    compositions,
    founded_ids,
    merged_ids,
    merges,
    nobody,
    splits,
    together,
    whole_clusters,
)

A, B, C = b"a" * 16, b"b" * 16, b"c" * 16


def founded_id(record_key: int, attempt: int) -> bytes:
    """The id of one founder."""
    return founded_ids(pl.Series([record_key], dtype=pl.Int64), attempt)[0]


def moves(*rows: tuple) -> pl.DataFrame:
    """record_key, cluster, old_customer, home_customer of each record; none of them changed at its source."""
    names = ("record_key", "cluster", "old_customer", "home_customer")
    kinds = (pl.Int64, pl.Int64, pl.Binary, pl.Binary)
    frame = pl.DataFrame(rows, schema=dict(zip(names, kinds, strict=True)), orient="row")
    return frame.with_columns(is_changed=pl.lit(False)).sort("cluster", "record_key")


def registry(*rows: tuple):
    """customer, status, record_count, created_run_id of the ids that were ever given."""
    names = ("customer", "status", "record_count", "created_run_id")
    kinds = (pl.Binary, pl.String, pl.Int32, pl.Int32)
    known = pl.DataFrame(rows, schema=dict(zip(names, kinds, strict=True)), orient="row")
    return lambda ids: known.filter(pl.col("customer").is_in(ids.implode()))


def owners(assignment) -> dict[int, str]:
    return dict(assignment.clusters.select("cluster", "customer").rows())


def customers(*ids: bytes) -> pl.Series:
    return pl.Series(ids, dtype=pl.Binary)


def test_a_new_cluster_is_founded_by_its_smallest_record():
    made = assign(moves((7, 1, None, None), (5, 1, None, None)), registry())
    assert owners(made) == {1: founded_id(5, 0)}
    assert made.clusters["is_opened"].to_list() == [True]


def test_an_id_that_somebody_lives_under_is_not_founded_again():
    first = founded_id(5, 0)
    made = assign(moves((5, 1, None, None)), registry((first, "live", 1, 1)))
    assert owners(made) == {1: founded_id(5, 1)}


def test_new_clusters_assigned_part_by_part_end_as_all_together():
    sizes = [3, 1, 1, 5, 2]
    rows = [(10 * cluster + place, cluster) for cluster, size in enumerate(sizes) for place in range(size)]
    new = pl.DataFrame(rows, schema=["record_key", "cluster"], orient="row")
    whole = assign(new, nobody)
    for size in range(1, 14):
        parts = whole_clusters(new, size)
        assert pl.concat(parts).equals(new)
        assert not any(set(one["cluster"]) & set(other["cluster"]) for one, other in pairwise(parts))
        assert together([assign(part, nobody) for part in parts]).clusters.equals(whole.clusters)
    assert together([assign(part, nobody) for part in whole_clusters(new.clear(), 5)]).clusters.height == 0


def test_of_two_that_merge_the_larger_survives_then_the_older_then_the_smaller():
    together = moves((1, 1, A, A), (2, 1, B, B))
    for known, survivor in (
        (((A, "live", 1, 1), (B, "live", 2, 1)), B),
        (((A, "live", 1, 2), (B, "live", 1, 1)), B),
        (((A, "live", 1, 1), (B, "live", 1, 1)), A),
    ):
        made = assign(together, registry(*known))
        assert owners(made) == {1: survivor}
        assert merged_ids(made)["into_customer"].to_list() == [survivor]


def test_a_split_keeps_the_id_where_most_records_are_and_opens_another():
    parted = moves((1, 1, A, A), (2, 1, A, A), (3, 3, A, A))
    made = assign(parted, registry((A, "live", 3, 1)))
    assert owners(made) == {1: A, 3: founded_id(3, 0)}
    assert splits(parted, made).rows() == [(A, founded_id(3, 0), 1)]
    assert set(changed_customers(parted, made, customers())["global_customer_id"]) == {A, founded_id(3, 0)}


def test_of_two_parts_the_one_that_was_not_corrected_keeps_the_id():
    for corrected, keeps in ((1, 2), (2, 1)):
        parted = moves((1, 1, A, A), (2, 2, A, A)).with_columns(is_changed=pl.col("record_key") == corrected)
        assert owners(assign(parted, registry((A, "live", 2, 1))))[keeps] == A


def test_an_id_once_given_is_founded_again_only_where_it_was_closed_and_the_record_is_new():
    first, again = founded_id(5, 0), founded_id(5, 1)
    for status, old, owner in (
        ("closed", None, first),
        ("closed", A, again),
        ("merged", None, again),
        ("erased", None, again),
    ):
        made = assign(
            moves((5, 1, old, old), (6, 2, A, A), (7, 2, A, A)),
            registry((first, status, 0, 1), (A, "live", 3, 1)),
        )
        assert owners(made) == {1: owner, 2: A}


def test_an_erased_id_is_not_taken_back():
    parted = moves((1, 1, A, A), (2, 2, A, B), (3, 2, A, B))
    made = assign(parted, registry((A, "live", 3, 1), (B, "erased", 0, 1)))
    assert owners(made) == {1: A, 2: founded_id(2, 0)}


def test_an_unmerge_gives_back_the_id_the_records_came_with():
    parted = moves((1, 1, A, A), (2, 2, A, B), (3, 2, A, B))
    made = assign(parted, registry((A, "live", 3, 1), (B, "merged", 0, 1)))
    # A's own record outweighs the two that came by the merge.
    assert owners(made) == {1: A, 2: B}


def test_a_customer_without_records_is_merged_or_closed():
    together = moves((1, 1, A, A), (2, 1, B, B))
    made = assign(together, registry((A, "live", 2, 1), (B, "live", 1, 1)))
    changed = changed_customers(together, made, customers(C))
    shown = changed.select("global_customer_id", "status", "merged_into", "record_count")
    assert shown.rows() == [
        (A, "live", None, 2),
        (B, "merged", A, 0),
        (C, "closed", None, 0),
    ]


def test_only_customers_whose_members_changed_are_written():
    stay = moves((1, 1, A, A), (2, 1, A, A), (3, 3, B, B))
    made = assign(stay, registry((A, "live", 2, 1), (B, "live", 1, 1)))

    def changed(members: pl.DataFrame, *withdrawn: bytes) -> list[bytes]:
        return changed_customers(members, made, customers(*withdrawn))["global_customer_id"].to_list()

    assert changed(stay) == []
    assert changed(stay, B) == [B], "a record of it was withdrawn"
    assert changed(stay.with_columns(is_changed=pl.col("record_key") == 2)) == [A], (
        "a record of it was corrected"
    )
    first = stay.drop("old_customer", "home_customer", "is_changed")
    assert changed(first) == [A, B], "all are new"


def test_a_merge_names_the_decision_or_the_strongest_link_behind_it():
    together_now = moves((1, 1, A, A), (2, 1, A, A), (3, 1, B, B), (4, 1, None, None), (5, 1, C, C))
    together_now = together_now.with_columns(profile_key=pl.col("record_key") * 10)
    made = assign(together_now, registry((A, "live", 2, 1), (B, "live", 1, 1), (C, "live", 1, 1)))
    links = pl.DataFrame(
        [(10, 30, 4.0), (20, 30, 7.25), (30, 40, 5.0), (10, 20, 9.0), (20, 99, 8.0)],
        schema={"left_profile_key": pl.Int64, "right_profile_key": pl.Int64, "match_weight": pl.Float32},
        orient="row",
    )

    def written(*said: tuple) -> list[tuple]:
        names = {"decision_id": pl.Int64, "judgement": pl.String, "record_key": pl.Int64}
        decisions = pl.DataFrame(said, schema=names, orient="row")
        found = merges(merged_ids(made), together_now, links, decisions)
        return found.select(
            "from_customer_id",
            "into_customer_id",
            "record_count",
            "left_record_key",
            "right_record_key",
            "reason",
        ).rows()

    by_link = (B, A, 1, 2, 3, "link of weight 7.3")
    assert written() == [by_link, (C, A, 1, None, None, "joined through other records")]
    decision = [(7, "same", 1), (7, "same", 5), (8, "different", 1), (8, "different", 3)]
    assert written(*decision) == [by_link, (C, A, 1, 1, 5, "decision of a steward")]


def test_what_a_customer_is_made_of():
    small = [(1, 1, 1, 11), (2, 1, 3, 12), (3, 1, 3, 12), (4, 4, 64, 13)]
    large = [(100 + number, 100, 2, number // 2) for number in range(LARGE_CUSTOMER)]
    members = pl.DataFrame(
        small + large, schema=["record_key", "cluster", "source_number", "profile_key"], orient="row"
    )
    made = assign(members, registry())
    made_of = compositions(members, made, {1: 1, 2: 2, 3: 4, 64: 0})
    assert made_of.select("cluster", "source_mask", "profile_count").rows() == [
        (1, 1 | 4, None),
        (4, 0, None),
        (100, 2, LARGE_CUSTOMER // 2),
    ]
