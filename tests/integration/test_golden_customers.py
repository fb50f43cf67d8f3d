"""Phase 7: which value survives, why, and what is not touched."""

import psycopg2
import pytest
from resolved_records import A, B, C

from db.errors import ConfigurationError
from gold import run_golden_customers
from gold.survivorship import ATTRIBUTES, RULES


def chain(resolved, attribute: str, *strategies: str, order: list[str] | None = None) -> None:
    resolved.database.execute("delete from gold.survivorship_rules where attribute = %s", (attribute,))
    for step, strategy in enumerate(strategies, 1):
        resolved.database.execute(
            "insert into gold.survivorship_rules values (%s, %s, %s, %s)",
            (attribute, step, strategy, order if strategy == "priority" else None),
        )


def test_one_record_is_golden_as_it_is(resolved):
    resolved.add(A, "sales:1", name="Anna Berg", email="anna@berg.se", postal_code="11120")
    resolved.run_gold()
    assert resolved.golden(A) == {
        "name": "Anna Berg", "email": "anna@berg.se", "postal_code": "11120",
        "record_count": 1, "source_count": 1,
    }  # fmt: skip
    assert resolved.values(A, "email") == [("anna@berg.se", True, "only_value")]


def test_a_record_that_says_nothing_is_a_customer(resolved):
    resolved.add(A, "sales:1")
    resolved.run_gold()
    assert resolved.golden(A) == {"record_count": 1, "source_count": 1}


def test_by_default_the_latest_email_the_usual_name_and_the_fullest_address_survive(resolved):
    resolved.add(A, "sales:1", "2026-01-01", name="Anna Berg", email="old@berg.se", postal_code="11120")
    resolved.add(
        A, "support:1", "2026-01-02", name="Anna Berg", email="new@berg.se",
        address="storgatan 1", city="Stockholm", postal_code="11122",
    )  # fmt: skip
    resolved.add(A, "marketing:1", "2026-01-03", name="Ana Berg", postal_code="11129")
    resolved.run_gold()
    assert resolved.golden(A) == {
        "name": "Anna Berg", "email": "new@berg.se", "address": "storgatan 1", "city": "Stockholm",
        "postal_code": "11122", "record_count": 3, "source_count": 3,
    }  # fmt: skip
    assert resolved.values(A, "name") == [
        ("Anna Berg", True, "most_frequent"), ("Ana Berg", False, "most_frequent"),
    ]  # fmt: skip
    assert resolved.values(A, "postal_code") == [
        ("11122", True, "most_complete"),
        ("11120", False, "most_complete"),
        ("11129", False, "most_complete"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("strategy", "golden"),
    [
        ("priority", "Jo Doe"),
        ("most_frequent", "J Doe"),
        ("most_recent", "Jo Doe"),
        ("most_complete", "Joe Doe"),
        ("longest", "John Doe"),
        ("oldest", "John Doe"),
    ],
)
def test_each_strategy(resolved, strategy, golden):
    chain(resolved, "name", strategy, order=["marketing", "sales"])
    resolved.add(A, "sales:1", "2026-01-01", name="John Doe")
    resolved.add(A, "sales:2", "2026-01-02", name="J Doe")
    resolved.add(A, "support:1", "2026-01-03", name="J Doe")
    resolved.add(A, "support:2", "2026-01-04", name="Joe Doe", phone="+12125550100")
    resolved.add(A, "marketing:1", "2026-01-05", name="Jo Doe")
    resolved.run_gold()
    assert resolved.golden(A)["name"] == golden
    assert resolved.values(A, "name")[0] == (golden, True, strategy)


def test_a_tie_falls_back_along_the_chain_and_last_to_the_value_that_sorts_first(resolved):
    resolved.add(A, "sales:1", "2026-01-01", name="J Doe", phone="+12125550102")
    resolved.add(A, "sales:2", "2026-01-01", name="Jo Doe", phone="+12125550101")
    resolved.run_gold()
    assert resolved.values(A, "name") == [("Jo Doe", True, "longest"), ("J Doe", False, "longest")]
    assert resolved.values(A, "phone") == [
        ("+12125550101", True, "tie_break"), ("+12125550102", False, "tie_break"),
    ]  # fmt: skip


def test_a_source_out_of_the_order_comes_last(resolved):
    chain(resolved, "name", "priority", "oldest", order=["sales"])
    resolved.add(A, "marketing:1", "2026-01-01", name="Anna M")
    resolved.add(A, "sales:1", "2026-01-02", name="Anna S")
    resolved.run_gold()
    assert resolved.golden(A)["name"] == "Anna S"


def test_a_value_tells_who_says_it_how_often_and_when(resolved):
    resolved.add(A, "sales:1", "2026-01-01", phone="+12125550100")
    resolved.add(A, "support:1", "2026-03-01", phone="+12125550100")
    resolved.add(A, "sales:2", "1999-02-01", phone="+12125550100")
    resolved.run_gold()
    assert resolved.database.query(
        "select sources, v.record_count, first_seen::date::text, last_seen::date::text, record_id "
        "from gold.customer_attribute_values as v "
        "inner join identity.customer_identity_map using (record_key)"
    ) == [(["sales", "support"], 3, "1999-02-01", "2026-03-01", "1")]


def test_the_parts_of_an_address_are_never_mixed(resolved):
    resolved.add(A, "sales:1", "2026-01-01", city="Lund", postal_code="22100")
    resolved.add(A, "sales:2", "2026-01-02", address="storgatan 1", city="Lund")
    resolved.run_gold()
    assert resolved.golden(A) == {
        "address": "storgatan 1", "city": "Lund", "record_count": 2, "source_count": 1,
    }  # fmt: skip
    assert resolved.values(A, "postal_code") == [("22100", False, "most_recent")]
    assert resolved.values(A, "city") == [("Lund", True, "most_recent")]


def test_a_run_without_change_writes_nothing(resolved):
    resolved.add(A, "sales:1", name="Anna")
    resolved.add(A, "sales:2", name="Ann")
    resolved.run_gold()
    before = resolved.snapshot()
    resolved.run_gold()
    assert resolved.snapshot() == before


def test_a_changed_rule_recomputes_only_whom_it_can_affect(resolved):
    resolved.add(A, "sales:1", "2026-01-01", email="old@a.se", phone="+12125550100")
    resolved.add(A, "sales:2", "2026-01-02", email="new@a.se", phone="+12125550100")
    resolved.add(B, "sales:3", email="one@b.se", phone="+12125550100")
    resolved.run_gold()
    chain(resolved, "email", "oldest")
    chain(resolved, "phone", "oldest")
    run_golden_customers.main([])
    assert resolved.golden(A)["email"] == "old@a.se"
    assert resolved.database.query(
        "select rows_in, rows_out from gold.pipeline_phases where run_id = %s", (resolved.run_id,)
    ) == [(1, 1)]


def test_a_changed_address_rule_reaches_addresses_that_differ_in_their_parts(resolved):
    resolved.add(A, "sales:1", "2026-01-01", city="Lund", postal_code="22100")
    resolved.add(A, "sales:2", "2026-01-02", city="Lund")
    resolved.add(B, "sales:3", "2026-01-01", city="Lund")
    resolved.add(B, "sales:4", "2026-01-02", name="Bo")
    resolved.run_gold()
    chain(resolved, "address", "most_recent")
    resolved.run_gold()
    assert "postal_code" not in resolved.golden(A)
    assert resolved.database.query("select count(*) from gold.customer_change_events") == [(3,)]


@pytest.mark.parametrize(
    ("statement", "says"),
    [
        ("values ('email', 3, 'most_recent')", "survivorship_rules_attribute_strategy_key"),
        ("values ('email', 3, 'only_value')", "violates foreign key"),
        ("values ('email', 3, 'best')", "invalid input value for enum"),
        ("values ('fax', 1, 'oldest')", "invalid input value for enum"),
        ("values ('city', 1, 'oldest')", "city_and_postal_code_survive_with_the_address"),
        ("values ('email', 3, 'priority')", "priority_and_only_priority_has_a_source_order"),
        ("values ('email', 3, 'oldest', '{sales}')", "priority_and_only_priority_has_a_source_order"),
        ("values ('email', 3, 'priority', '{}')", "source_order_names_a_source"),
        ("values ('email', 3, 'priority', '{sails}')", "sails, which is no source"),
        ("values ('email', 3, 'priority', '{sales,sales}')", "names a source twice"),
        ("values ('email', 3, 'priority', '{{sales},{sales}}')", "source_order is a list of lists"),
        ("values ('email', 7, 'oldest')", "survivorship_rules_step_check"),
    ],
)
def test_a_mistake_in_the_rules_is_refused(resolved, statement, says):
    with pytest.raises(psycopg2.Error, match=says):
        resolved.database.execute(f"insert into gold.survivorship_rules {statement}")


def test_an_attribute_without_a_rule_stops_the_phase_and_says_how_to_mend_it(resolved):
    resolved.database.execute("delete from gold.survivorship_rules where attribute = 'email'")
    resolved.add(A, "sales:1", email="a@b.se")
    with pytest.raises(ConfigurationError, match="no step for email.*insert into"):
        run_golden_customers.main([])


def test_hostile_values_go_through(resolved):
    odd = "O'Brien; drop table x -- \x1f %s {value} \\ " + "å" * 5000
    resolved.add(A, "sales:1", name=odd, address="a\x1fb", city=odd)
    resolved.add(A, "sales:2", name=odd + "!", address="c")
    resolved.run_gold()
    assert resolved.golden(A)["name"] == odd + "!"
    assert resolved.golden(A)["address"] == "a b"


def test_slices_parts_and_keys_read_one_by_one_change_nothing(resolved, monkeypatch):
    for customer, name in ((A, "Anna"), (B, "Bo"), (C, "Cia")):
        resolved.add(customer, f"sales:{name}1", "2026-01-01", name=name, city="Lund")
        resolved.add(customer, f"sales:{name}2", "2026-01-02", name=name + " L")
    resolved.run_gold()
    before = resolved.snapshot()
    golden = [resolved.golden(customer) for customer in (A, B, C)]
    for size, value in (("SLICE", 2), ("PART", 1), ("KEYS", 1), ("MOST", 100)):
        monkeypatch.setattr(run_golden_customers, size, value)
    touch = "update identity.customers set run_id = %s"
    resolved.database.execute(touch, (resolved.run_id,))
    resolved.run_gold()
    assert resolved.snapshot() == before
    resolved.database.execute("truncate gold.attribute_values; delete from gold.dim_customers")
    resolved.database.execute(touch, (resolved.run_id,))
    resolved.run_gold()
    assert [resolved.golden(customer) for customer in (A, B, C)] == golden


def test_attributes_and_rules_are_those_of_the_schema(resolved):
    ((attributes, rules),) = resolved.database.query(
        "select enum_range(null::gold.canonical_attribute)::text[], enum_range(null::gold.golden_rule)::text[]"
    )
    assert (tuple(attributes), tuple(rules)) == (ATTRIBUTES, RULES)


def test_only_what_differs_is_written(resolved):
    resolved.add(A, "sales:1", name="Anna", email="a@a.se")
    resolved.run_gold()
    first_run = resolved.run_id - 1
    resolved.add(A, "sales:2", "2026-01-02", name="Anna L", email="a@a.se")
    resolved.run_gold()
    assert resolved.database.query(
        "select value, run_id - %s from gold.customer_attribute_values order by 1", (first_run,)
    ) == [("Anna", 1), ("Anna L", 1), ("a@a.se", 1)]
    resolved.add(A, "sales:3", "2026-01-03", phone="+12125550100")
    resolved.run_gold()
    assert resolved.database.query(
        "select value, run_id - %s from gold.customer_attribute_values order by 1", (first_run,)
    ) == [("+12125550100", 2), ("Anna", 1), ("Anna L", 1), ("a@a.se", 1)]


def test_an_override_of_a_customer_without_records_leaves_no_value(resolved):
    resolved.add(A, "sales:1", name="Anna")
    resolved.run_gold()
    resolved.database.execute("select gold.steward_override(%s, 'name', 'Ann', 'eva', 'x')", (A,))
    resolved.run_gold()
    resolved.withdraw("sales:1")
    resolved.run_gold()
    assert resolved.golden(A) == {}
    assert resolved.values(A, "name") == []


def test_what_values_have_in_common_is_kept_once(resolved):
    for customer, name in ((A, "Anna"), (B, "Bo")):
        resolved.add(customer, f"sales:{name}", "2026-01-01", name=name)
        resolved.run_gold()
    assert resolved.database.query("select attribute, rule, is_golden, sources from gold.value_kinds") == [
        ("name", "only_value", True, ["sales"])
    ]
    assert resolved.database.query(
        "select value, sources, first_seen = last_seen from gold.customer_attribute_values order by 1"
    ) == [("Anna", ["sales"], True), ("Bo", ["sales"], True)]


def test_a_part_of_several_addresses_is_said_by_all_who_say_one_of_them(resolved):
    resolved.add(A, "sales:1", "2026-01-01", address="a street 1", city="Lund")
    resolved.add(A, "support:1", "2026-01-02", address="b street 2", city="Lund")
    resolved.add(A, "marketing:1", "2026-01-03", address="c street 3", city="Ystad")
    resolved.run_gold()
    assert resolved.database.query(
        "select value, sources, record_count from gold.customer_attribute_values "
        "where attribute = 'city' order by 1"
    ) == [("Lund", ["sales", "support"], 2), ("Ystad", ["marketing"], 1)]
