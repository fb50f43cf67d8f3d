"""Metrics against hand-counted literal rows."""

import json

import pytest

METRICS = "gold/run_quality_metrics.py"
ANN, BOB, TEL = (f"00000000-0000-8000-8000-00000000000{n}" for n in (1, 2, 3))


@pytest.fixture
def store(database):
    """Four records of sales and one of support, which are three customers: run 1."""
    database.execute(
        "insert into gold.pipeline_runs (trigger, status) select 'test', 'done' from generate_series(1, 3);"
        "insert into raw.sources (source_system, prefix, raw_table, staging_table, record_id_field, attributes, "
        "day_first) values "
        "('sales', 'sales/', 'sales_orders', 'stg_sales', 'id', "
        """ '{"email": ["e"], "phone": ["p"], "name": ["n"]}', false), """
        "('support', 'support/', 'support_tickets', 'stg_support', 'id', "
        """ '{"email": ["e"]}', false); """
        "select staging.create_source_table(staging_table), raw.create_source_table(source_system, raw_table) "
        "from raw.sources; select staging.create_identity_inputs()"
    )
    junk = {"email": {"value": "x", "reason": "no @"}}
    deliver(database, "sales", "s1", 1, "2026-03-05", email="a@x.com", phone="+15550001", name="Ann Lee")
    deliver(database, "sales", "s2", 1, "2026-03-09", email="a@x.com", name="Ann Lee")
    deliver(database, "sales", "s3", 1, "2024-01-20", name="Bob Ray", issues=json.dumps(junk))
    deliver(database, "sales", "s4", 1, "2026-02-11", phone="+15550002")
    deliver(database, "support", "t1", 1, "2026-03-30", email="b@x.com")
    belong(database, ANN, 1, ("sales", "s1"), ("sales", "s2"))
    belong(database, BOB, 1, ("sales", "s3"))
    belong(database, TEL, 1, ("sales", "s4"), ("support", "t1"))
    return database


def deliver(database, source, record_id, run_id, day, is_deleted=False, **values):
    """A cleaned record as phases 3 and 4 leave it."""
    row = {"run_id": run_id, "event_ts": day, "is_deleted": is_deleted, **values}
    columns = ", ".join(row)
    database.execute(
        f"insert into staging.stg_{source} (record_key, record_id, object_id, line_number, {columns}) "
        f"values (identity.record_key(%s, %s), %s, 1, 1, {', '.join(['%s'] * len(row))}) "
        f"on conflict (record_key) do update set ({columns}) = row ({', '.join('excluded.' + c for c in row)})",
        (source, record_id, record_id, *row.values()),
    )


def belong(database, customer, run_id, *records):
    """The records are this customer, as phase 6 leaves it."""
    database.execute(
        "insert into identity.customers (global_customer_id, status, record_count, created_run_id, run_id, "
        "source_mask) select %s, 'live', %s, %s, %s, bit_or(source_bit) from raw.sources "
        "where source_system = any(%s) on conflict (global_customer_id) do update set record_count = "
        "excluded.record_count, source_mask = excluded.source_mask, run_id = excluded.run_id",
        (customer, len(records), run_id, run_id, [source for source, _ in records]),
    )
    for source, record_id in records:
        database.execute(
            "insert into identity.memberships values "
            "(identity.record_key(%s, %s), null, %s, 100, %s, null, 'alone', "
            "(select source_number from raw.sources where source_system = %s)) "
            "on conflict (record_key) do update set global_customer_id = excluded.global_customer_id",
            (source, record_id, run_id, customer, source),
        )


def quality(database, run_id, scope, source, attribute):
    """record_count, value_count and the five shares, rounded."""
    rows = database.query(
        "select record_count, value_count, round(completeness::numeric, 3)::float, "
        "round(validity::numeric, 3)::float, round(uniqueness::numeric, 3)::float, "
        "round(consistency::numeric, 3)::float, round(timeliness::numeric, 3)::float "
        "from gold.data_quality_metrics "
        "where run_id = %s and scope = %s and source_system = %s and attribute = %s",
        (run_id, scope, source, attribute),
    )
    return rows[0] if rows else None


def metric(database, run_id, name):
    """{subject: value} of a metric."""
    rows = database.query(
        "select subject, value from gold.run_metrics where run_id = %s and metric = %s", (run_id, name)
    )
    return {subject: round(value, 3) for subject, value in rows}


def test_the_five_measures_are_those_counted_by_hand(store, run_phase):
    run_phase(METRICS, MDM_RUN_ID="1")
    # Three of four say an email, two of the three a valid one, the same; two of the three within a year.
    assert quality(store, 1, "delivered", "sales", "email") == (4, 3, 0.75, 0.667, 0.5, None, 0.667)
    assert quality(store, 1, "standing", "sales", "email") == (4, 3, 0.75, 0.667, None, 1.0, 0.667)
    assert quality(store, 1, "delivered", "sales", "name") == (4, 3, 0.75, 1.0, None, None, 0.667)
    assert quality(store, 1, "delivered", "support", "email") == (1, 1, 1.0, 1.0, 1.0, None, 1.0)


def test_an_attribute_the_source_does_not_have_is_not_measured(store, run_phase):
    run_phase(METRICS, MDM_RUN_ID="1")
    assert quality(store, 1, "standing", "support", "phone") is None


def test_customers_sizes_duplicates_and_match_rates(store, run_phase):
    run_phase(METRICS, MDM_RUN_ID="1")
    assert metric(store, 1, "customers") == {"all": 3}
    assert metric(store, 1, "customers_of_size") == {"1": 1, "2": 2}
    assert metric(store, 1, "duplicate_rate") == {"sales": 0.25, "support": 0}
    assert metric(store, 1, "match_rate") == {"sales in support": 0.333, "support in sales": 1}


def test_a_correction_is_counted_once_and_a_withdrawn_record_no_more(store, run_phase):
    run_phase(METRICS, MDM_RUN_ID="1")
    deliver(store, "sales", "s3", 2, "2026-03-01", email="bob@x.com", name="Bob Ray", issues=None)
    deliver(store, "sales", "s4", 2, "2026-03-01", is_deleted=True, phone=None)
    store.execute("delete from identity.memberships where record_key = identity.record_key('sales', 's4')")
    belong(store, BOB, 2, ("sales", "s3"))
    belong(store, TEL, 2, ("support", "t1"))
    run_phase(METRICS, MDM_RUN_ID="2")
    assert quality(store, 2, "standing", "sales", "email") == (3, 3, 1.0, 1.0, None, 1.0, 1.0)
    assert quality(store, 2, "standing", "sales", "phone")[:3] == (3, 1, 0.333)
    assert quality(store, 2, "delivered", "sales", "email")[:3] == (1, 1, 1.0)
    assert metric(store, 2, "customers_of_size") == {"1": 2, "2": 1}
    assert metric(store, 2, "match_rate") == {"sales in support": 0, "support in sales": 0}


def test_the_running_totals_equal_a_count_of_everything(store, run_phase):
    run_phase(METRICS, MDM_RUN_ID="1")
    deliver(store, "sales", "s1", 2, "2026-04-01", email=None, phone="+15550001", name="Ann Lee")
    deliver(store, "sales", "s1", 2, "2026-04-02", email="ann@x.com", phone=None, name="Ann Lee")
    run_phase(METRICS, MDM_RUN_ID="2")
    counted = store.query(
        "select 'sales', date_trunc('month', event_ts, 'UTC')::date, gold.delivered_bits(email, phone, name, "
        "birth_date, address, city, postal_code, national_id) | gold.flagged_bits(issues), "
        "gold.flagged_bits(issues), count(*) from staging.stg_sales group by 1, 2, 3, 4 order by 1, 2, 3, 4"
    )
    totals = store.query(
        "select * from gold.record_quality_totals where source_system = 'sales' and record_count <> 0 "
        "order by 1, 2, 3, 4"
    )
    assert totals == counted


def test_a_run_that_changed_nothing_writes_nothing(store, run_phase):
    run_phase(METRICS, MDM_RUN_ID="1")
    assert "nothing to do" in run_phase(METRICS, MDM_RUN_ID="2").stdout
    assert store.query("select count(*) from gold.run_metrics where run_id = 2") == [(0,)]


def test_what_a_steward_says_is_counted_in_the_next_run(store, run_phase):
    shared = "insert into staging.shared_values values ('phone', %s, 1, 90, 70, 0.03, 1)"
    for number in ("+1800", "+1900"):
        store.execute(shared, (number,))
    run_phase(METRICS, MDM_RUN_ID="1")
    assert metric(store, 1, "review_queue") == {"shared_value": 2}
    store.execute("select gold.steward_acknowledge('shared_value phone +1800', 'sam', 'a call centre')")
    run_phase(METRICS, MDM_RUN_ID="2")
    assert metric(store, 2, "review_queue") == {"shared_value": 1}
    store.execute("select gold.steward_withdraw(1, 'sam', 'it is none')")
    run_phase(METRICS, MDM_RUN_ID="3")
    assert metric(store, 3, "review_queue") == {"shared_value": 2}
    assert "nothing to do" in run_phase(METRICS, MDM_RUN_ID="3").stdout


def test_compared_pairs_by_decision_rule_and_score(store, run_phase):
    for run_id, rule_id, decision, score, count in (
        (1, 1, "AUTO_MERGE", 95, 2),
        (1, 2, "REJECT", 10, 1),
    ):
        store.execute(
            "insert into staging.compared_pair_counts values (%s, %s, %s, %s, %s)",
            (run_id, rule_id, decision, score, count),
        )
    store.execute("insert into staging.compared_pairs values (1, 2, 0, 0, 0, 1, 10, 2, 1)")
    run_phase(METRICS, MDM_RUN_ID="1")
    assert store.query(
        "select rule_id, match_decision::text, score_from, pair_count from gold.match_confidence_metrics order by 1"
    ) == [(1, "AUTO_MERGE", 95, 2), (2, "REJECT", 10, 1)]
    assert metric(store, 1, "decision_share") == {"AUTO_MERGE": 0.667, "REJECT": 0.333}


def test_runs_that_took_nothing_in_do_not_say_what_is_usual(store, run_phase):
    store.execute("insert into gold.pipeline_runs (trigger) select 'past' from generate_series(1, 30)")
    for run_id in range(1, 21):
        # Six days, the duplicate rate rising by 2.5 points each, and after the last many runs of a steward.
        day = min(run_id, 6)
        store.execute(
            "insert into gold.run_metrics values (%s, 'duplicate_rate', 'sales', %s, 100000)",
            (run_id, day / 40),
        )
        if run_id == day:
            store.execute(
                "insert into gold.run_metrics values (%s, 'quarantine_rate', 'sales', 0, 1000)", (run_id,)
            )
    store.execute(
        "insert into gold.record_quality_totals values ('sales', '2020-01-01', 0, 0, 100000 - 4);"
        "insert into gold.customer_composition_totals select source_bit, 1, (100000 - 4) * 33 / 40 from raw.sources "
        "where source_system = 'sales'"
    )
    run_phase(METRICS, MDM_RUN_ID="21")
    assert metric(store, 21, "duplicate_rate")["sales"] == 0.175
    assert store.query("select metric, subject, value, usual from gold.metric_warnings") == []


def test_a_share_far_from_its_median_is_a_warning(store, run_phase):
    store.execute("insert into gold.pipeline_runs (trigger) select 'past' from generate_series(1, 7)")
    for run_id, share in enumerate((0.90, 0.91, 0.90, 0.89, 0.90), 1):
        store.execute(
            "insert into gold.run_metrics values (%s, 'quarantine_rate', 'sales', 1 - %s, 1000)",
            (run_id, share),
        )
    store.execute(
        "insert into raw.ingested_objects (source_system, object_key, etag, size_bytes, last_modified, row_count, "
        "rejected_count, run_id) values ('sales', 'sales/a', 'e', 1, now(), 500, 500, 9)"
    )
    run_phase(METRICS, MDM_RUN_ID="9")
    assert store.query(
        "select metric, subject, value, round(usual::numeric, 3)::float, run_count from gold.metric_warnings"
    ) == [("quarantine_rate", "sales", 0.5, 0.1, 5)]
    assert (
        "warning: quarantine rate of sales is 50.0%"
        in run_phase("gold/run_summary.py", MDM_RUN_ID="9").stdout
    )
