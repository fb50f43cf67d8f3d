"""Where the sources contradict each other, and what a steward should decide, on literal rows."""

import json
from itertools import count, pairwise
from math import log2

import pytest
from psycopg2.errors import RaiseException

from tests.integration.resolved_records import stage_sources
from tests.pipeline import record as line

CONFLICTS = "gold/run_conflict_detection.py"
ANN, BOB = "00000000-0000-8000-8000-000000000001", "00000000-0000-8000-8000-000000000002"


@pytest.fixture
def store(database):
    """Two customers of three records each, without a value yet."""
    stage_sources(database)
    database.execute(
        "insert into gold.pipeline_runs (trigger, status, started_at) "
        "select 'test', 'done', now() - interval '2 days' from generate_series(1, 4)"
    )
    for customer in (ANN, BOB):
        touch(database, customer, 1)
    return database


def touch(database, customer, run_id):
    """The customer changed in this run, and phase 7 has seen it."""
    database.execute(
        "insert into identity.customers (global_customer_id, status, record_count, created_run_id, run_id) "
        "values (%s, 'live', 3, %s, %s) on conflict (global_customer_id) do update set run_id = excluded.run_id",
        (customer, run_id, run_id),
    )
    database.execute(
        "insert into identity.ingestion_watermarks (phase, upstream, run_id) "
        "values ('run_golden_customers', 'identity.customers', %s) "
        "on conflict (phase, upstream) do update set run_id = excluded.run_id",
        (run_id,),
    )


KEYS = count(1)


def said(database, customer, attribute, value, sources, days, records=2):
    """The value is said by the sources, from the first to the last of two days of March."""
    kind = (attribute, sources)
    database.execute(
        "insert into gold.value_kinds select count(*) + 1, %s, 'most_recent', false, %s from gold.value_kinds "
        "on conflict (attribute, rule, is_golden, sources) do nothing",
        kind,
    )
    database.execute(
        "insert into gold.attribute_values (global_customer_id, record_key, first_seen, last_seen, "
        "record_count, run_id, value, kind) select %s, %s, %s, nullif(%s::timestamptz, %s), %s, 1, %s, kind "
        "from gold.value_kinds where attribute = %s and sources = %s",
        (
            customer,
            next(KEYS),
            first := f"2026-03-{days[0]:02}",
            f"2026-03-{days[1]:02}",
            first,
            records,
            value,
            *kind,
        ),
    )


def found(database):
    return database.query(
        "select global_customer_id::text, kind, severity, sources, value_count "
        "from gold.customer_attribute_conflicts order by 1, 2"
    )


@pytest.mark.parametrize(
    ("attribute", "left", "right", "contradict"),
    [
        ("birth_date", "1980-02-11", "1991-07-30", True),
        ("birth_date", "1980-02-11", "1980-02-12", False),  # one digit
        ("birth_date", "1980-02-11", "1980-11-02", False),  # day and month swapped
        ("birth_date", "1980-01-01", "1980-11-22", False),  # only the year is known
        ("national_id", "7214469", "7214496", False),  # two digits swapped
        ("national_id", "7214469", "1187302", True),
        ("name", "Ann Lee", "Omar Dietz", True),
        ("name", "Ann Lee", "A. Lee", False),
        ("name", "Ann Lee", "'Ann", False),
        ("name", "Maria Sol", "Omar Meier", False),  # an initial in common, and not the first
        ("name", "Billy Dube", "WilliamDube", False),
        ("name", "Katherine Moss", "Catherine Price", False),  # sound alike, and people marry
    ],
)
def test_what_contradicts_and_what_is_a_slip(store, run_phase, attribute, left, right, contradict):
    said(store, ANN, attribute, left, ["sales"], (1, 1))
    said(store, ANN, attribute, right, ["support"], (2, 2))
    run_phase(CONFLICTS)
    expected = [(ANN, f"different_{attribute}", "high", ["sales", "support"], 2)]
    assert found(store) == (expected if contradict else [])


def test_a_new_email_is_no_conflict_but_two_in_use_are(store, run_phase):
    said(store, ANN, "email", "old@x.com", ["sales"], (1, 5))
    said(store, ANN, "email", "new@x.com", ["support"], (6, 9))
    said(store, BOB, "email", "one@x.com", ["sales"], (1, 9))
    said(store, BOB, "email", "two@x.com", ["support"], (3, 7))
    run_phase(CONFLICTS)
    assert found(store) == [(BOB, "alternating_email", "low", ["sales", "support"], 2)]


def test_what_is_said_once_alternates_with_nothing(store, run_phase):
    said(store, ANN, "phone", "+15550001", ["sales"], (1, 9))
    said(store, ANN, "phone", "+15550002", ["support"], (3, 3), records=1)
    run_phase(CONFLICTS)
    assert found(store) == []


def test_a_resolved_conflict_leaves_and_others_are_not_touched(store, run_phase):
    for customer in (ANN, BOB):
        said(store, customer, "birth_date", "1980-02-11", ["sales"], (1, 1))
        said(store, customer, "birth_date", "1991-07-30", ["support"], (2, 2))
    run_phase(CONFLICTS, MDM_RUN_ID="2")
    store.execute("delete from gold.attribute_values where value = '1991-07-30'")
    touch(store, ANN, 3)
    run_phase(CONFLICTS, MDM_RUN_ID="3")
    assert [row[0] for row in found(store)] == [BOB]
    assert "nothing to do" in run_phase(CONFLICTS, MDM_RUN_ID="4").stdout


def test_an_override_settles_a_conflict_until_it_ends(store, run_phase):
    said(store, ANN, "birth_date", "1980-02-11", ["sales"], (1, 1))
    said(store, ANN, "birth_date", "1991-07-30", ["support"], (2, 2))
    run_phase(CONFLICTS, MDM_RUN_ID="1")
    override(store, ANN, "birth_date", "1980-02-11", applied_run_id=2)
    run_phase(CONFLICTS, MDM_RUN_ID="2")
    assert found(store) == []
    store.execute("update gold.customer_steward_overrides set retired_run_id = 3")
    run_phase(CONFLICTS, MDM_RUN_ID="3")
    assert len(found(store)) == 1


# -- the review queue --------------------------------------------------------------------------------------


def override(database, customer, attribute, value, valid_until=None, applied_run_id=1):
    database.execute(
        "insert into gold.customer_steward_overrides (global_customer_id, attribute, value, steward, reason, "
        "valid_until, applied_run_id) values (%s, %s, %s, 'sam', 'asked', now() + %s::interval, %s)",
        (customer, attribute, value, valid_until, applied_run_id),
    )


def record(database, customer, profile, source, record_id, **values):
    """A record of a profile in a customer."""
    columns = "".join(f", {name}" for name in values)
    database.execute(
        f"insert into staging.stg_{source}_rows (record_key, profile_key, run_id, object_id, line_number, "
        f"is_deleted, event_ts, record_id{columns}) "
        f"values (identity.record_key(%s, %s), %s, 1, 0, 0, false, now(), %s{', %s' * len(values)})",
        (source, record_id, profile, record_id, *values.values()),
    )
    database.execute(
        "insert into identity.memberships values "
        "(identity.record_key(%s, %s), %s, 1, 100, %s, null, 'alone')",
        (source, record_id, profile, customer),
    )


def link(database, left, right, score):
    """A link of two profiles that waits: the comparison behind it."""
    database.execute(
        "insert into staging.compared_pairs values (%s, %s, "
        "staging.packed_comparison(2::smallint, 17.12::real, 1) "
        "| staging.packed_comparison(0::smallint, -4.9::real, 2), "
        "0, 0, 1, %s, 1, 1)",
        (left, right, log2(score / (100 - score))),
    )


def queue(database, columns="kind"):
    return database.query(f"select {columns} from gold.steward_review_queue")


@pytest.fixture
def two_customers(store):
    """Ann in two records of two profiles, Bob in one; both pairs of profiles wait."""
    levels = [{"name": name} for name in ("exact", "one_edit", "else")]
    model = {"comparisons": [{"name": "phone", "levels": levels}, {"name": "given_name", "levels": levels}]}
    store.execute(
        "insert into identity.match_models (method, is_current, profile_count, pair_count, parameters, "
        "configuration_hash, reason, run_id) values ('em', true, 3, 2, %s, 'x', 'first', 1)",
        (json.dumps(model),),
    )
    record(store, ANN, 1, "sales", "O1", name="Ann Lee", phone="+15550001")
    record(store, ANN, 2, "sales", "O2", name="Ann Lee", phone="+15550001")
    record(store, BOB, 3, "support", "T'7", name="Bob Lee", phone="+15550001")
    link(store, 1, 3, 71.4)
    link(store, 2, 3, 66.0)
    return store


def test_a_pair_of_customers_is_one_item_with_its_reason_and_the_call_that_settles_it(two_customers):
    ((kind, left, right, side_by_side, explanation, call),) = queue(
        two_customers, "kind, left_record, right_record, side_by_side, explanation, settle_call"
    )
    assert (kind, left, right) == ("flagged_pair", "sales O1", "support T'7")
    assert side_by_side == {"name": ["Ann Lee", "Bob Lee"], "phone": ["+15550001", "+15550001"]}
    assert explanation == "phone exact +17.1, given name differs -4.9 = 71.4 of 100"
    assert call == "select gold.steward_confirm('sales', 'O1', 'support', 'T''7', '<you>', '<why>');"


def test_a_profile_is_shown_by_its_first_record_that_is_in_a_customer(two_customers):
    record(two_customers, BOB, 3, "support", "T8", name="Bob Lee")
    in_order = two_customers.query(
        "select source_system || ' ' || record_id from identity.customer_identity_map "
        "where global_customer_id = %s order by record_key",
        (BOB,),
    )
    assert queue(two_customers, "right_record") == in_order[:1]
    two_customers.execute(
        "delete from identity.memberships where record_key = (select record_key from "
        "identity.customer_identity_map where source_system || ' ' || record_id = %s)",
        in_order[0],
    )
    assert queue(two_customers, "right_record") == in_order[1:]


@pytest.mark.parametrize("column", ["settle_call", "other_call"])
def test_the_call_works_as_it_stands_and_the_item_leaves(two_customers, column):
    ((call,),) = queue(two_customers, column)
    two_customers.execute(call)
    assert queue(two_customers) == []


def test_a_refused_link_says_why_and_a_link_inside_a_customer_is_none(two_customers):
    link(two_customers, 1, 2, 99)
    two_customers.execute("update staging.compared_pairs set decision = 2")
    refusal = "insert into identity.refused_links values (%s, %s, 1, 6.6, %s)"
    two_customers.execute(refusal, (1, 2, "contradiction"))
    two_customers.execute(refusal, (1, 3, "birth_dates_contradict"))
    ((kind, explanation),) = queue(two_customers, "kind, explanation")
    assert kind == "refused_link"
    assert explanation.startswith("birth dates contradict: phone exact")
    two_customers.execute("update staging.compared_pairs set decision = 0")
    assert queue(two_customers) == []


def test_conflicts_shared_values_and_overrides(store, run_phase):
    said(store, ANN, "birth_date", "1980-02-11", ["sales"], (1, 1))
    said(store, ANN, "birth_date", "1991-07-30", ["support"], (2, 2))
    said(store, BOB, "email", "one@x.com", ["sales"], (1, 9))
    said(store, BOB, "email", "two@x.com", ["support"], (3, 7))
    run_phase(CONFLICTS)
    store.execute("insert into staging.shared_values values ('phone', '+1800', 1, 90, 70, 0.03, 1)")
    override(store, BOB, "email", "old@x.com")
    override(store, BOB, "email", "new@x.com")
    override(store, BOB, "phone", "+15550002", valid_until="2 days")
    override(store, BOB, "name", "Bob Lee", valid_until="90 days")
    assert queue(store, "priority, kind") == [
        (1, "colliding_overrides"),
        (1, "expiring_override"),
        (2, "conflict"),
        (5, "shared_value"),
    ]
    assert queue(store, "side_by_side, explanation")[2] == (
        {"birth_date": ["1991-07-30", "1980-02-11"]},
        "1991-07-30 by support (2), 1980-02-11 by sales (2)",
    )


def test_what_is_acknowledged_leaves_until_it_changes(store):
    store.execute("insert into staging.shared_values values ('phone', '+1800', 1, 90, 70, 0.03, 1)")
    ((call,),) = queue(store, "settle_call")
    store.execute(call)
    assert queue(store) == []
    store.execute("insert into staging.shared_values values ('phone', '+1900', 2, 95, 80, 0.02, 1)")
    assert len(queue(store)) == 1


def test_an_acknowledgement_has_a_number_among_the_decisions_and_is_withdrawn_by_it(two_customers):
    override(two_customers, BOB, "city", "Lund")
    ((item, number),) = two_customers.query(
        "select item, gold.steward_acknowledge(item, 'sam', 'cannot be known') from gold.steward_review_queue"
    )
    assert number == 2 and queue(two_customers) == []
    two_customers.execute("select gold.steward_withdraw(%s, 'eva', 'it can')", (number,))
    assert queue(two_customers, "item") == [(item,)]
    assert two_customers.query(
        "select withdrawn_by, withdrawn_reason from gold.steward_acknowledgements"
    ) == [("eva", "it can")]  # fmt: skip
    with pytest.raises(RaiseException, match="decision 2 was withdrawn on .* already"):
        two_customers.execute("select gold.steward_withdraw(2, 'eva', 'it can')")


@pytest.mark.parametrize(("steward", "reason"), [(" ", "seen"), ("sam", " ")])
def test_an_acknowledgement_says_who_and_why(two_customers, steward, reason):
    with pytest.raises(RaiseException, match="a decision needs"):
        two_customers.execute(
            "select gold.steward_acknowledge(item, %s, %s) from gold.steward_review_queue", (steward, reason)
        )


def test_a_pair_left_as_it_is_is_so_for_its_customers(two_customers):
    ((item,),) = queue(two_customers, "item")
    two_customers.execute("select gold.steward_acknowledge(%s, 'sam', 'cannot be known')", (item,))
    assert queue(two_customers) == []
    two_customers.execute("insert into identity.refused_links values (2, 3, 1, 0.9, 'weak')")
    assert queue(two_customers) == [("refused_link",)]


def test_equal_records_that_say_too_little_to_be_one_are_shown_two_by_two(store):
    for number in range(4):
        record(
            store, customer := f"00000000-0000-8000-9000-{number:012}", 1, "sales", str(number), city="Lund"
        )
        touch(store, customer, 1)
    link(store, 1, 1, 60)
    in_order = [
        record_id
        for (record_id,) in store.query("select record_id from staging.stg_sales_rows order by record_key")
    ]
    for pair, column in zip(pairwise(in_order), ("settle_call", "other_call", "item"), strict=True):
        shown = queue(store, f"left_record, right_record, side_by_side, explanation, {column}")
        *said, call = shown[0]
        assert len(shown) == 1
        assert said == [f"sales {pair[0]}", f"sales {pair[1]}", {"city": ["Lund", "Lund"]}, said[-1]]
        store.execute(
            "select gold.steward_acknowledge(%s, 'sam', 'who knows')" if column == "item" else call, (call,)
        )
    assert queue(store) == []


@pytest.fixture
def one_of_a_kind(store):
    """A queue that shows one item of a kind."""
    store.execute(
        "create or replace function gold.review_queue_limit(kind text) returns integer "
        "language sql immutable return 1"
    )
    return store


@pytest.mark.parametrize("refused", [False, True])
def test_settled_pairs_take_no_place_from_those_that_wait(one_of_a_kind, refused):
    store = one_of_a_kind
    for number in range(24):
        record(store, customer := f"00000000-0000-8000-9000-{number:012}", number, "sales", str(number))
        touch(store, customer, 1)
    for number in range(0, 24, 2):
        link(store, number, number + 1, 80 - number)
        if refused:
            store.execute("insert into identity.refused_links values (%s, %s, 1, %s, 'weak')",
                          (number, number + 1, 80 - number))  # fmt: skip
    for number in range(0, 24, 2):
        assert queue(store, "right_record") == [(f"sales {number + 1}",)]
        ((call,),) = queue(store, "other_call")
        store.execute(call)
    assert queue(store) == []


def test_what_is_left_as_it_is_takes_no_place_from_others_of_its_kind(one_of_a_kind, run_phase):
    store = one_of_a_kind
    for customer in (ANN, BOB):
        said(store, customer, "birth_date", "1980-02-11", ["sales"], (1, 1))
        said(store, customer, "birth_date", "1991-07-30", ["support"], (2, 2))
    run_phase(CONFLICTS)
    store.execute(
        "insert into gold.customer_composition_totals values (1, 1, 100000);"
        "update identity.customers set record_count = 25, profile_count = 25;"
        "insert into staging.shared_values values "
        "('phone', '+1800', 1, 90, 70, 0.03, 1), ('phone', '+1900', 2, 95, 80, 0.02, 1)"
    )
    for kind in ("conflict", "large_customer", "shared_value"):
        acknowledge = (
            f"select gold.steward_acknowledge(item, 'sam', 'so be it') from ({{}}) where kind = '{kind}'"
        )
        items = f"select item, kind from gold.steward_review_queue where kind = '{kind}'"
        first, second = ((store.query(items), store.execute(acknowledge.format(items)))[0] for _ in range(2))
        assert len(first) == len(second) == 1 and first != second
    assert queue(store) == []


def test_a_customer_far_larger_than_the_others_is_shown(store, run_phase):
    store.execute("insert into gold.customer_composition_totals values (1, 1, 100000)")
    store.execute(
        "update identity.customers set record_count = 25, profile_count = 25 where global_customer_id = %s",
        (ANN,),
    )
    run_phase("gold/run_quality_metrics.py")
    ((kind, explanation),) = queue(store, "kind, explanation")
    assert kind == "large_customer"
    assert explanation == "25 records, 25 different profiles: one person, or several?"


def test_values_that_come_after_the_conflicts_of_their_run_are_looked_at(pipelines):
    """Where phase 7 is left out of a run."""
    pipeline = pipelines()
    person = {"name": "Astrid Holm", "email": "a.holm@example.org", "phone": "+12127365000"}
    pipeline.deliver(
        line("shop:1", **person, birth_date="1980-02-11"),
        line("desk:1", **person, birth_date="1991-07-30"),
    )
    pipeline.run("2", "6")
    pipeline.run("10", "10")
    conflicts = "select attribute, value_count from gold.customer_attribute_conflicts"
    assert pipeline.query(conflicts) == []
    pipeline.run()
    assert pipeline.query(conflicts) == [("birth_date", 2)]
    before = pipeline.rows_on_disk()
    pipeline.run()
    assert pipeline.rows_on_disk() == before
