"""Phase 9A: the events, and the consumers that read them."""

import threading

import psycopg2
import pytest
from resolved_records import A, B

from gold import run_golden_cdc, run_golden_customers, run_golden_history
from tests.pipeline import check_laws, record


def test_insert_update_delete_and_back(resolved):
    resolved.add(A, "sales:1", email="a@b.se", name="Ann")
    resolved.run_gold()
    resolved.add(A, "sales:1", email="c@d.se", name="Ann")
    resolved.run_gold()
    resolved.withdraw("sales:1")
    resolved.run_gold()
    resolved.add(A, "sales:1", email="c@d.se", name="Ann")
    resolved.run_gold()
    assert resolved.events() == [
        ("INSERT", A, None, None),
        ("UPDATE", A, None, ["email"]),
        ("DELETE", A, None, None),
        ("INSERT", A, None, None),
    ]
    assert resolved.database.query(
        "select old_record ->> 'canonical_email', new_record ->> 'canonical_email' "
        "from gold.customer_change_events where change_type in ('UPDATE', 'DELETE') order by 1"
    ) == [("a@b.se", "c@d.se"), ("c@d.se", None)]


def test_a_merge_and_the_way_back(resolved):
    resolved.add(A, "sales:1", name="Ann")
    resolved.add(B, "sales:2", name="Anna")
    resolved.run_gold()
    resolved.merge(B, A)
    resolved.run_gold()
    resolved.split(A, B, "sales:2")
    resolved.run_gold()
    assert resolved.events() == [
        ("INSERT", A, None, None),
        ("INSERT", B, None, None),
        ("UPDATE", A, None, ["name", "record_count"]),
        ("MERGE", B, A, None),
        ("SPLIT", B, A, None),
        ("UPDATE", A, None, ["name", "record_count"]),
    ]


def test_a_run_that_failed_before_the_events_is_caught_up_by_the_next(resolved):
    resolved.add(A, "sales:1", name="Ann")
    run_golden_customers.main([])
    run_golden_history.main([])
    resolved.open_run()
    resolved.add(A, "sales:1", name="Anna")
    run_golden_customers.main([])
    run_golden_history.main([])
    resolved.open_run()
    resolved.run_gold()
    assert resolved.events() == [("INSERT", A, None, None)]


def test_a_change_whose_version_an_earlier_run_opened_is_told_once(resolved):
    resolved.add(A, "sales:1", name="Ann")
    resolved.add(B, "sales:2", name="Bob")
    resolved.run_gold()
    resolved.add(A, "sales:1", name="Anna")
    run_golden_customers.main([])
    resolved.open_run()
    resolved.withdraw("sales:2")
    run_golden_customers.main([])
    run_golden_history.main([])
    run_golden_cdc.main([])
    assert resolved.events()[2:] == [("UPDATE", A, None, ["name"]), ("DELETE", B, None, None)]


def test_versions_that_come_after_the_events_of_their_run_have_events(resolved):
    """Where phase 8 is left out of a run."""
    resolved.add(A, "sales:1", name="Ann")
    run_golden_customers.main([])
    run_golden_cdc.main([])
    resolved.open_run()
    resolved.run_gold()
    resolved.add(A, "sales:1", name="Anna")
    run_golden_customers.main([])
    resolved.open_run()
    run_golden_cdc.main([])
    resolved.open_run()
    resolved.run_gold()
    assert resolved.events() == [("INSERT", A, None, None), ("UPDATE", A, None, ["name"])]


@pytest.mark.parametrize(
    "first", [[("6", "6"), ("8", "9A")], [("6", "6"), ("9A", "9A")], [("6", "7"), ("9A", "9A")]]
)
def test_a_split_is_one_whichever_phases_are_left_out_of_its_run(pipelines, trained_model, first):
    pipeline = pipelines()
    pipeline.use_model(trained_model)
    astrid = {"name": "Astrid Holm", "email": "astrid.holm@example.org"}
    pipeline.deliver(record("shop:1", **astrid), record("shop:2", **astrid))
    pipeline.run()
    customer = pipeline.ids()["shop:1"]
    pipeline.value("gold.steward_split(%s::uuid, array['shop:2'], 'eva', 'two')", customer)
    for phases in first:
        pipeline.run(*phases)
    pipeline.run()
    (opened,) = {*pipeline.ids().values()} - {customer}
    assert sorted(pipeline.events_since(1)) == [("SPLIT", opened, customer), ("UPDATE", customer, None)]
    check_laws(pipeline)


def test_an_override_beside_a_version_that_comes_late(pipelines):
    """Where a run ended before phase 8, and the next one has a version to catch up on in 9B's run."""
    pipeline = pipelines()
    pipeline.deliver(record("shop:1", name="Astrid Holm"), record("shop:2", name="Bertil Nyman"))
    pipeline.run()
    pipeline.deliver(record("shop:1", "2026-02-01", name="Astrid Berg"))
    pipeline.run("2", "7")
    other = pipeline.ids()["shop:2"]
    pipeline.value("gold.steward_override(%s::uuid, 'city', 'Lund', 'eva', 'moved')", other)
    pipeline.run()
    assert {(kind, who) for kind, who, _ in pipeline.events_since(2)} == {
        ("UPDATE", pipeline.ids()["shop:1"]),
        ("UPDATE", other),
    }
    check_laws(pipeline)


def test_events_once_written_are_not_written_again(resolved):
    resolved.add(A, "sales:1", name="Ann")
    resolved.run_gold()
    resolved.database.execute("delete from identity.ingestion_watermarks")
    resolved.run_gold()
    assert resolved.events() == [("INSERT", A, None, None)]


def test_a_consumer_reads_on_from_what_it_acknowledged(resolved):
    for number in range(5):
        resolved.add(A, "sales:1", name=f"Ann {'abcde'[number]}")
        resolved.run_gold()

    def read(limit):
        return [
            number for (number,) in resolved.database.query(
                "select event_seq from gold.read_events('crm', %s)", (limit,)
            )
        ]  # fmt: skip

    assert (read(2), read(2)) == ([1, 2], [1, 2])
    resolved.database.execute("select gold.acknowledge_events('crm', 2)")
    assert read(10) == [3, 4, 5]
    for wrong, says in ((6, "there is no event 6"), (1, "already acknowledged up to 2")):
        with pytest.raises(psycopg2.Error, match=says):
            resolved.database.execute("select gold.acknowledge_events('crm', %s)", (wrong,))


@pytest.mark.parametrize(
    ("call", "says"),
    [
        ("read_events(null)", "a consumer needs a name"),
        ("read_events(' ')", "a consumer needs a name"),
        ("read_events('crm', null)", "how many events at most, not null"),
        ("read_events('crm', -1)", "how many events at most, not -1"),
        ("acknowledge_events('crm', -1)", "a number from 1, and not -1"),
        ("acknowledge_events('crm', null)", "a number from 1, and not null"),
        ("acknowledge_events(' ', 0)", "a consumer needs a name"),
    ],
)
def test_a_wrong_call_for_events_says_what_is_wrong(resolved, call, says):
    with pytest.raises(psycopg2.errors.RaiseException, match=says):
        resolved.database.query(f"select gold.{call}")


def test_a_rollback_leaves_no_gap_and_no_number_becomes_visible_out_of_order(database):
    with database.connect() as one, one.cursor() as first:
        first.execute("select gold.lock_last_event_seq()")
        assert first.fetchone() == (0,)
        seen = []
        second = threading.Thread(
            target=lambda: seen.extend(database.query("select gold.lock_last_event_seq()"))
        )
        second.start()
        second.join(0.3)
        assert second.is_alive() and seen == []
        first.execute(
            "insert into gold.customer_changes (event_seq, occurred_at, run_id, change_type, "
            "global_customer_id) values (1, now(), 1, 'DELETE', %s)",
            (A,),
        )
        one.rollback()
        second.join(5)
        assert seen == [(0,)]


def test_events_of_9b_do_not_come_again_from_9a(resolved):
    resolved.add(A, "sales:1", name="Ann")
    resolved.run_gold()
    resolved.database.execute("select gold.steward_override(%s, 'name', 'Anna', 'eva', 'her own word')", (A,))
    resolved.run_gold()
    run_golden_cdc.main([])
    assert resolved.events()[1:] == [("UPDATE", A, None, ["name"])]
