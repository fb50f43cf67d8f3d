"""Survivorship without a database: literal records in, literal values and golden records out."""

import random

import polars as pl
import pytest

from db.errors import ConfigurationError
from gold.survivorship import ATTRIBUTES, CHAINED, survive

RECORD = {
    "customer": pl.Int64, "record_key": pl.Int64, "event_ts": pl.Int64, "source_system": pl.String,
    **dict.fromkeys(ATTRIBUTES, pl.String),
}  # fmt: skip
OVERRIDE = {"customer": pl.Int64, "attribute": pl.Enum(ATTRIBUTES), "value": pl.String, "made_at": pl.Int64}


def record(customer, key, time, source="sales", **attributes):
    """One source record."""
    return {"customer": customer, "record_key": key, "event_ts": time, "source_system": source} | attributes


def survived(records, overrides=(), **chains):
    """survive() of records, where an attribute without a chain of its own goes by the most recent."""
    chains = {
        attribute: [
            step if isinstance(step, tuple) else (step, None)
            for step in chains.get(attribute, ["most_recent"])
        ]
        for attribute in CHAINED
    }
    return survive(
        pl.DataFrame([dict.fromkeys(RECORD) | given for given in records], schema=RECORD),
        chains,
        pl.DataFrame(list(overrides), schema=OVERRIDE, orient="row"),
    )


def said(values, attribute, *columns):
    """The columns of the values of one attribute, in order of customer and value."""
    return values.filter(pl.col("attribute") == attribute).sort("customer", "value").select(columns).rows()


def test_values_are_counted_by_customer_and_the_best_is_golden():
    values, golden = survived(
        [
            record(2, 20, 5, name="Ann", city="Lund"),
            record(1, 10, 3, "support", name="Ann"),
            record(1, 11, 1, name="Anna"),
            record(1, 12, 2, name="Ann"),
        ],
        name=["most_frequent"],
    )
    assert said(values, "name", "customer", "value", "rule", "is_golden", "record_count", "source_list") == [
        (1, "Ann", "most_frequent", True, 2, "sales,support"),
        (1, "Anna", "most_frequent", False, 1, "sales"),
        (2, "Ann", "only_value", True, 1, "sales"),
    ]
    assert golden.select(
        "customer", "record_count", "source_count", "canonical_name", "canonical_city"
    ).rows() == [(1, 3, 2, "Ann", None), (2, 1, 1, "Ann", "Lund")]


def test_a_value_has_its_first_and_last_time_and_the_latest_record():
    values, _ = survived([record(1, 10, 7, phone="+1"), record(1, 11, 9, phone="+1"),
                          record(1, 12, 3, phone="+1")])  # fmt: skip
    assert said(values, "phone", "first_seen", "last_seen", "record_key") == [(3, 9, 11)]


def test_of_two_records_at_one_time_the_later_by_the_bytes_of_its_key_is_shown():
    values, _ = survived([record(1, -5, 1, email="a@b.se"), record(1, 6, 1, email="a@b.se")])
    assert said(values, "email", "record_key") == [(-5,)]


def test_the_rule_is_the_step_that_told_a_value_from_its_opponent():
    values, _ = survived(
        [record(1, 1, 1, name="Bo"), record(1, 2, 1, name="Bo"), record(1, 3, 2, name="Bosse"),
         record(1, 4, 3, name="Bo L")],
        name=["most_frequent", "longest"],
    )  # fmt: skip
    assert said(values, "name", "value", "rule", "is_golden") == [
        ("Bo", "most_frequent", True),
        ("Bo L", "most_frequent", False),
        ("Bosse", "most_frequent", False),
    ]
    values, _ = survived(
        [record(1, 1, 1, name="Bo"), record(1, 2, 1, name="Bosse"), record(1, 3, 1, name="Bjørn")],
        name=["most_frequent", "longest"],
    )
    assert said(values, "name", "value", "rule", "is_golden") == [
        ("Bjørn", "tie_break", True),
        ("Bo", "longest", False),
        ("Bosse", "tie_break", False),
    ]


def test_priority_goes_by_the_first_source_that_says_a_value():
    values, _ = survived(
        [record(1, 1, 1, "leads", email="a@b.se"), record(1, 2, 2, "sales", email="b@b.se"),
         record(1, 3, 3, "leads", email="b@b.se"), record(1, 4, 4, "other", email="c@b.se")],
        email=[("priority", ["sales", "nobody", "leads"])],
    )  # fmt: skip
    assert said(values, "email", "value", "rule", "is_golden") == [
        ("a@b.se", "priority", False), ("b@b.se", "priority", True), ("c@b.se", "priority", False),
    ]  # fmt: skip


def test_the_parts_of_an_address_come_from_one_record():
    values, golden = survived(
        [record(1, 1, 1, address="a 1", city="Lund"), record(1, 2, 2, city="Lund", postal_code="22100"),
         record(1, 3, 3, postal_code="1")],
        address=["most_complete", "most_recent"],
    )  # fmt: skip
    assert golden.select("canonical_address", "canonical_city", "canonical_postal_code").rows() == [
        (None, "Lund", "22100")
    ]
    assert said(values, "city", "value", "rule", "is_golden", "record_count", "record_key") == [
        ("Lund", "most_recent", True, 2, 2)
    ]
    assert said(values, "postal_code", "value", "rule", "is_golden") == [
        ("1", "most_complete", False), ("22100", "most_recent", True),
    ]  # fmt: skip


def test_a_steward_is_above_all_rules():
    records = [record(1, 1, 1, email="a@b.se"), record(1, 2, 2, email="b@b.se"), record(2, 3, 3)]
    values, golden = survived(
        records, [(1, "email", "a@b.se", 9), (2, "city", "Lund", 8), (3, "city", "Ystad", 7)]
    )
    shown = ("customer", "value", "rule", "is_golden", "record_key", "record_count", "source_list")
    assert said(values, "email", *shown) == [
        (1, "a@b.se", "steward_override", True, 1, 1, "sales"),
        (1, "b@b.se", "steward_override", False, 2, 1, "sales"),
    ]
    # A customer who has no records has no values either.
    assert said(values, "city", *shown, "first_seen") == [
        (2, "Lund", "steward_override", True, None, 0, "", 8)
    ]
    assert golden["canonical_city"].to_list() == [None, "Lund"]


def test_no_records_no_customers():
    values, golden = survived([])
    assert (values.height, golden.height) == (0, 0)
    assert values.columns == survived([record(1, 1, 1, name="Bo")])[0].columns


def test_more_sources_than_bits_are_refused():
    with pytest.raises(ConfigurationError, match="64 sources"):
        survived([record(1, key, 1, f"source{key}") for key in range(64)])


def test_the_order_of_the_records_changes_nothing():
    draw = random.Random(7)
    records = [
        record(
            draw.randrange(30), key * (-1) ** key, draw.randrange(5), draw.choice(["sales", "leads"]),
            name=draw.choice(["A", "Aa", "B", None]), email=draw.choice(["x", "y", None]),
            city=draw.choice(["Lund", "Ystad", None]), postal_code=draw.choice(["1", "2", None]),
        )
        for key in range(200)
    ]  # fmt: skip
    chains = {"name": ["most_frequent", "longest"], "address": ["most_complete", "most_frequent"]}
    values, golden = survived(records, **chains)
    draw.shuffle(records)
    again, same = survived(records, **chains)
    assert again.equals(values) and same.equals(golden)
