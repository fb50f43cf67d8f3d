"""What once were tables with copies are views now: what they showed is what they show."""

import pytest

from db import schema
from tests.pipeline import check_laws, record

ASTRID = {"name": "Astrid Holm", "email": "astrid.holm@example.org"}
PHONE = {"phone": "+1 212 736 5004"}
# view: (the table it reads now, its order)
FORMER = {
    "gold.customer_change_events": ("gold.customer_changes", "event_seq"),
    "gold.customer_attribute_values": ("gold.attribute_values", "global_customer_id, attribute, value"),
    "identity.match_links": ("identity.refused_links", "left_profile_key, right_profile_key"),
    "staging.identity_match_candidates": ("staging.compared_pairs", "left_profile_key, right_profile_key"),
    "identity.customer_identity_map": ("identity.memberships", "record_key"),
    "gold.match_confidence_metrics": (
        "staging.compared_pair_counts",
        "run_id, rule_id, match_decision, score_from",
    ),
}


@pytest.fixture
def lived(pipeline):
    """Two days of records: compared pairs, links, memberships, and events of every column."""
    pipeline.deliver(
        record("shop:1", **ASTRID, **PHONE),
        record("desk:1", **ASTRID),
        record("crm:1", name="Ana Lima", **PHONE),
    )
    pipeline.run()
    pipeline.deliver(record("shop:1", "2026-01-02", name="Astrid Holm-Berg", email=ASTRID["email"]))
    pipeline.run()
    return pipeline


def upgrade(lived) -> None:
    """Apply the whole schema, as a newer version of the project does."""
    lived.database.execute("delete from gold.schema_files")
    with lived.database.connect() as connection, connection.cursor() as cursor:
        schema.apply(cursor)


def test_former_tables_become_the_views_they_were(lived):
    def shown() -> dict[str, list[tuple]]:
        return {
            view: lived.query(f"select * from {view} order by {order}") for view, (_, order) in FORMER.items()
        }

    before = shown()
    assert all(before.values())
    copies = "; ".join(
        f"create table former_{number} as select * from {view}" for number, view in enumerate(FORMER)
    )
    lived.database.execute(copies)
    for number, (view, (table, _)) in enumerate(FORMER.items()):
        schema_name, name = view.split(".")
        lived.database.execute(
            f"drop view if exists {view} cascade; drop table {table} cascade; "
            f"alter table former_{number} set schema {schema_name}; "
            f"alter table {schema_name}.former_{number} rename to {name}"
        )
    upgrade(lived)
    assert shown() == before
    # And the work goes on.
    lived.deliver(record("desk:2", "2026-01-03", **ASTRID))
    lived.run()
    assert lived.together("desk:1", "desk:2")


def test_what_customers_are_made_of_is_counted_anew(lived):
    def counted() -> list[list[tuple]]:
        return [
            lived.query(
                "select global_customer_id, source_mask, profile_count from identity.customers order by 1"
            ),
            lived.query(
                "select * from gold.customer_composition_totals where customer_count <> 0 order by 1, 2"
            ),
        ]

    before = counted()
    assert all(before)
    lived.database.execute(
        "alter table identity.customers drop column source_mask cascade, drop column profile_count; "
        "drop trigger recount_replaced on identity.customers; "
        "create table gold.customer_composition (global_customer_id uuid primary key); "
        "create table gold.quality_sources (source_system text primary key, bit smallint); "
        "update gold.customer_composition_totals set source_mask = source_mask * 8"
    )
    upgrade(lived)
    assert counted() == before
    lived.deliver(record("desk:1", "2026-01-03", **PHONE))
    lived.run()
    check_laws(lived)


def test_decisions_that_were_an_enumeration_are_numbers_now(lived):
    def shown() -> list[list[tuple]]:
        return [
            lived.query(f"select * from {view} order by 1, 2")
            for view in (
                "staging.identity_match_candidates",
                "identity.match_links",
                "gold.steward_review_queue",
            )
        ]

    lived.deliver(record("shop:2", name="Yuki Tanabe", **PHONE))
    lived.run()
    before = shown()
    assert lived.query("select count(distinct decision) > 1 from staging.compared_pairs") == [(True,)]
    lived.database.execute(
        "drop view gold.steward_review_queue, identity.match_links, staging.identity_match_candidates; "
        "drop index staging.compared_pairs_flagged; "
        "alter table staging.compared_pairs drop constraint compared_pairs_decision_check; "
        "alter table staging.compared_pairs alter column decision type identity.match_decision "
        "using (array['REJECT', 'FLAG_REVIEW', 'AUTO_MERGE']::identity.match_decision[])[decision + 1]; "
        "alter table staging.compared_pairs rename column decision to match_decision; "
        "create index compared_pairs_flagged on staging.compared_pairs (match_weight desc) "
        "where match_decision = 'FLAG_REVIEW'"
    )
    upgrade(lived)
    assert shown() == before
    lived.deliver(record("desk:2", "2026-01-03", **ASTRID))
    lived.run()
    check_laws(lived)


def test_pairs_that_wait_to_be_compared_wait_on(lived):
    def waiting() -> list[tuple]:
        return lived.query("select * from staging.identity_match_candidates_blocked order by 1, 2")

    lived.deliver(*(record(f"shop:{number}", name="Yuki Tanabe", **PHONE) for number in (2, 3)))
    lived.run("2", "4.5")
    before = waiting()
    assert {rule_id > 0 for *_, rule_id in before} == {False, True}
    lived.database.execute(
        "create table waiting as select * from staging.identity_match_candidates_blocked; "
        "drop view staging.identity_match_candidates_blocked; drop table staging.candidate_lists; "
        "alter table waiting set schema staging; "
        "alter table staging.waiting rename to identity_match_candidates_blocked"
    )
    upgrade(lived)
    assert waiting() == before
    lived.run()
    assert waiting() == []
    check_laws(lived)


def test_acknowledgements_with_numbers_of_their_own_get_new_ones(lived):
    call = "gold.steward_confirm('shop', '1', 'crm', '1', 'eva', 'I called')"
    assert lived.value(call) == 1
    lived.database.execute(
        "drop view gold.steward_review_queue; drop table gold.steward_acknowledgements; "
        "create table gold.steward_acknowledgements ("
        "acknowledgement_id bigint generated always as identity primary key, item text not null, "
        "steward text not null, reason text not null, acknowledged_at timestamptz not null default now(), "
        "valid_until timestamptz); "
        "insert into gold.steward_acknowledgements (item, steward, reason) values "
        "('one', 'sam', 'seen'), ('two', 'sam', 'seen'), ('three', 'sam', 'seen')"
    )
    for _ in range(2):
        upgrade(lived)
        assert lived.query("select acknowledgement_id, item from gold.steward_acknowledgements order by 1") == [
            (2, "one"), (3, "two"), (4, "three"),
        ]  # fmt: skip
    lived.value("gold.steward_withdraw(3, 'eva', 'no longer')")
    assert lived.value("select withdrawn_at from identity.steward_match_decisions") is None
