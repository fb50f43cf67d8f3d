"""What stewards say over psql: stored with who, why and when; refused when wrong; above all rules."""

import psycopg2
import pytest
from resolved_records import A, B, C

from identity import run_identity_resolution
from tests.pipeline import check_laws, record

ACTIVE = (
    "select judgement, side, source_system || ':' || record_id from identity.active_steward_decisions "
    "inner join identity.steward_decision_records using (decision_id, record_key, side) "
    "where decision_id = %s order by 1, 2, 3"
)


@pytest.fixture
def three(resolved):
    """A has two records, B and C one each."""
    resolved.add(A, "sales:1", "2026-01-01", name="Ann Berg", email="ann@berg.se")
    resolved.add(A, "support:1", "2026-01-02", name="Ann Berg", email="ann@home.se")
    resolved.add(B, "sales:2", name="Anna Berg")
    resolved.add(C, "sales:3", name="A Berg")
    resolved.run_gold()
    return resolved


def call(resolved, sql: str, *parameters: object) -> object:
    ((result,),) = resolved.database.query(f"select {sql}", parameters)
    return result


def confirm(resolved, one: str, two: str, verb: str = "confirm") -> object:
    return call(
        resolved, f"gold.steward_{verb}(%s, %s, %s, %s, 'eva', 'I called')", *one.split(":"), *two.split(":")
    )


def refused(resolved, says: str, sql: str, *parameters: object) -> psycopg2.Error:
    with pytest.raises(psycopg2.Error, match=says) as raised:
        call(resolved, sql, *parameters)
    return raised.value


def test_a_confirmation_is_kept_with_who_why_and_the_call(three):
    decision = confirm(three, "sales:1", "sales:2")
    assert three.database.query(ACTIVE, (decision,)) == [("same", 1, "sales:1"), ("same", 2, "sales:2")]
    assert three.database.query(
        "select judgement, made_by, call, steward, reason, decided_at <= now(), valid_until, withdrawn_at "
        "from identity.steward_match_decisions"
    ) == [
        (
            "same", "steward_confirm", "gold.steward_confirm('sales', '1', 'sales', '2')",
            "eva", "I called", True, None, None,
        )
    ]  # fmt: skip


def test_a_merge_speaks_of_all_records_of_both(three):
    decision = call(three, "gold.steward_merge(%s, %s, 'eva', 'one person')", A, B)
    assert three.database.query(ACTIVE, (decision,)) == [
        ("same", 1, "sales:1"), ("same", 1, "support:1"), ("same", 2, "sales:2"),
    ]  # fmt: skip


def test_a_split_keeps_what_leaves_together_and_apart(three):
    three.move(A, "sales:2")
    decision = call(three, "gold.steward_split(%s, '{sales:1,sales:2}', 'eva', 'two persons')", A)
    assert three.database.query(ACTIVE, (decision,)) == [
        ("different", 1, "sales:1"), ("different", 1, "sales:2"), ("different", 2, "support:1"),
        ("same", 1, "sales:1"), ("same", 1, "sales:2"),
    ]  # fmt: skip


def test_a_withdrawn_or_expired_decision_is_no_longer_active(three):
    first = confirm(three, "sales:1", "sales:2")
    call(three, "gold.steward_withdraw(%s, 'otto', 'mistaken')", first)
    call(
        three,
        "gold.steward_reject('sales', '1', 'sales', '3', 'eva', 'for now', now() + interval '50 ms')",
    )
    assert call(three, "pg_sleep(0.1)::text") == ""
    assert call(three, "count(*) from identity.active_steward_decisions") == 0
    assert three.database.query(
        "select withdrawn_by, withdrawn_reason from identity.steward_match_decisions where decision_id = %s",
        (first,),
    ) == [("otto", "mistaken")]


def test_a_rejection_of_what_was_confirmed_is_refused_and_names_the_first(three):
    first = confirm(three, "sales:1", "sales:2")
    error = refused(
        three, rf"contradicts decision {first} \(gold.steward_confirm.*\) of eva on .*: I called",
        "gold.steward_reject('sales', '2', 'sales', '1', 'otto', 'no')",
    )  # fmt: skip
    assert f"select gold.steward_withdraw({first}, 'otto'" in error.diag.message_hint
    assert call(three, "count(*) from identity.steward_match_decisions") == 1


def test_contradictions_are_followed_through_a_chain(three):
    confirm(three, "sales:1", "sales:2")
    second = confirm(three, "sales:2", "sales:3")
    refused(
        three, f"contradicts decision {second}",
        "gold.steward_reject('sales', '1', 'sales', '3', 'eva', 'no')",
    )  # fmt: skip


def test_a_confirmation_that_would_chain_what_was_rejected_is_refused(three):
    first = confirm(three, "sales:1", "sales:3", "reject")
    confirm(three, "sales:1", "sales:2")
    refused(
        three, f"contradicts decision {first}",
        "gold.steward_confirm('sales', '2', 'sales', '3', 'eva', 'yes')",
    )  # fmt: skip
    call(three, "gold.steward_withdraw(%s, 'eva', 'was wrong')", first)
    confirm(three, "sales:2", "sales:3")


def test_a_merge_after_a_split_is_refused_until_the_split_is_withdrawn(three):
    split = call(three, "gold.steward_split(%s, '{support:1}', 'eva', 'two persons')", A)
    three.split(A, other := B, "support:1")
    refused(three, f"contradicts decision {split}", "gold.steward_merge(%s, %s, 'eva', 'one')", A, other)
    call(three, "gold.steward_withdraw(%s, 'eva', 'was wrong')", split)
    call(three, "gold.steward_merge(%s, %s, 'eva', 'one')", A, other)


def test_a_decision_made_while_phase_6_works_is_heeded_by_the_next(pipelines, monkeypatch):
    """Law 4: what has been applied is what the resolution was made from, and not what is active at its end."""
    pipeline = pipelines()
    pipeline.deliver(record("shop:1", name="Astrid Holm"), record("shop:2", name="Bertil Nyman"))
    pipeline.run()
    pipeline.deliver(record("shop:3", name="Carin Ek"))
    cluster_records = run_identity_resolution.cluster_records

    def meanwhile(*given):
        pipeline.value("gold.steward_confirm('shop', '1', 'shop', '2', 'eva', 'I called')")
        return cluster_records(*given)

    with monkeypatch.context() as patched:
        patched.setattr(run_identity_resolution, "cluster_records", meanwhile)
        pipeline.run()
    assert len(pipeline.customers()) == 3
    pipeline.run()
    assert len(pipeline.customers()) == 2
    check_laws(pipeline)


def test_what_is_decided_already_is_refused_with_the_number_of_the_decision(three):
    first = confirm(three, "sales:1", "sales:2")
    again = "gold.steward_confirm('sales', '2', 'sales', '1', 'otto', 'so it is', {})"
    for until in ("null", "now() + interval '1 day'"):
        refused(three, rf"decision {first} \(.*\) of eva on .* says so already", again.format(until))
    call(three, "gold.steward_withdraw(%s, 'eva', 'not sure')", first)
    brief = call(three, again.format("now() + interval '1 day'"))
    assert brief < call(three, again.format("now() + interval '2 days'")) < call(three, again.format("null"))


def test_decisions_that_agree_and_say_more_are_all_kept(three):
    three.move(A, "sales:2")
    for leaving in ("{support:1}", "{sales:1,sales:2}"):
        call(three, "gold.steward_split(%s, %s, 'eva', 'two persons')", A, leaving)
    confirm(three, "sales:2", "support:1", "reject")
    refused(three, "says so already", "gold.steward_split(%s, '{support:1}', 'eva', 'again')", A)


@pytest.mark.parametrize(
    ("sql", "says"),
    [
        ("gold.steward_confirm('sales', '1', 'sales', '1', 'eva', 'x')", "needs two records"),
        ("gold.steward_confirm('sales', '1', 'sales', '9', 'eva', 'x')", "no record '9' of source 'sales'"),
        ("gold.steward_confirm('sails', '1', 'sales', '2', 'eva', 'x')", "no record '1' of source 'sails'"),
        ("gold.steward_confirm(null, '1', 'sales', '2', 'eva', 'x')", "no record '1' of source null"),
        ("gold.steward_confirm('sales', '1', 'sales', '2', ' ', 'x')", "name of its steward"),
        ("gold.steward_confirm('sales', '1', 'sales', '2', 'eva', null)", "needs a reason"),
        ("gold.steward_confirm('sales', '1', 'sales', '2', 'eva', 'x', '2020-01-01')", "lies in the past"),
        (f"gold.steward_merge('{A}', '{A}', 'eva', 'x')", "are one customer already"),
        (f"gold.steward_merge('{A}', gen_random_uuid(), 'eva', 'x')", "there is no customer"),
        (f"gold.steward_split('{A}', '{{}}', 'eva', 'x')", "needs the records that leave"),
        (f"gold.steward_split('{A}', '{{sales:2}}', 'eva', 'x')", "'sales:2' is no record of customer"),
        (f"gold.steward_split('{A}', '{{sales:1,support:1}}', 'eva', 'x')", "leaves some behind"),
        (f"gold.steward_override('{A}', 'fax', '1', 'eva', 'x')", "there is no attribute 'fax'"),
        ("gold.steward_withdraw(99, 'eva', 'x')", "there is no decision 99"),
    ],
)
def test_a_wrong_call_says_what_is_wrong(three, sql, says):
    refused(three, says, sql)
    assert call(three, "count(*) from identity.steward_match_decisions") == 0


@pytest.mark.parametrize(
    ("attribute", "value", "kept"),
    [
        ("email", " Ann@Berg.SE ", "ann@berg.se"),
        ("email", "ann@berg", None),
        ("email", "ann berg@berg.se", None),
        ("phone", "+46 (8) 123-45 67", "+4681234567"),
        ("phone", "08 123", None),
        ("birth_date", "1980-02-29", "1980-02-29"),
        ("birth_date", "1981-02-29", None),
        ("birth_date", "2999-01-01", None),
        ("birth_date", "tomorrow", None),
        ("national_id", "800229-1234", "8002291234"),
        ("national_id", "none", None),
        ("postal_code", "CR0 4DT", "cr0 4dt"),
        ("postal_code", "Stockholm", None),
        ("name", "  Åsa   Öberg ", "Åsa Öberg"),
        ("name", "1234", None),
        ("name", "x" * 301, None),
        ("name", "n/a", None),
        ("name", "Unknown", None),
        ("name", "Ann Test", "Ann Test"),
        ("city", "N.A.", None),
        ("city", "Nancy", "Nancy"),
        ("address", "(not available)", None),
        ("city", "", None),
        ("city", "a\x07b", None),
    ],
)
def test_a_value_is_checked_like_data(three, attribute, value, kept):
    sql = "gold.checked_value(%s, %s)"
    if kept is None:
        refused(three, "no valid|needs a value|is no value", sql, attribute, value)
    else:
        assert call(three, sql, attribute, value) == kept


def test_an_override_is_golden_from_the_next_run_until_it_is_withdrawn(three):
    override = call(three, "gold.steward_override(%s, 'email', 'ann@work.se', 'eva', 'she said so')", A)
    assert three.golden(A)["email"] == "ann@home.se"
    three.run_gold()
    assert three.golden(A)["email"] == "ann@work.se"
    assert three.values(A, "email") == [
        ("ann@work.se", True, "steward_override"), ("ann@berg.se", False, "steward_override"),
        ("ann@home.se", False, "steward_override"),
    ]  # fmt: skip
    three.add(A, "sales:1", "2026-05-05", name="Ann Berg", email="ann@later.se")
    three.run_gold()
    assert three.golden(A)["email"] == "ann@work.se"
    call(three, "gold.steward_withdraw(%s, 'eva', 'she left')", override)
    three.run_gold()
    assert three.golden(A)["email"] == "ann@later.se"
    assert [event for event in three.events() if event[0] == "UPDATE"] == [
        ("UPDATE", A, None, ["email"]), ("UPDATE", A, None, ["email"]),
    ]  # fmt: skip


def test_an_override_of_a_value_that_records_say_too_keeps_their_names(three):
    call(three, "gold.steward_override(%s, 'email', 'ann@berg.se', 'eva', 'the right one')", A)
    three.run_gold()
    assert three.database.query(
        "select sources, record_count, record_key is not null from gold.customer_attribute_values "
        "where is_golden and attribute = 'email' and global_customer_id = %s",
        (A,),
    ) == [(["sales"], 1, True)]


def test_an_override_expires_on_time(three):
    call(
        three,
        "gold.steward_override(%s, 'city', 'Lund', 'eva', 'for the summer', now() + interval '2 seconds')",
        A,
    )
    three.run_gold()
    assert three.golden(A)["city"] == "Lund"
    call(three, "pg_sleep(2)::text")
    three.run_gold()
    assert "city" not in three.golden(A)


def test_an_override_changes_nothing_twice(three):
    call(three, "gold.steward_override(%s, 'name', 'Ann B', 'eva', 'her word')", A)
    three.run_gold()
    before = three.snapshot()
    three.run_gold()
    assert three.snapshot() == before


def test_a_new_override_of_the_same_attribute_replaces_the_one_before(three):
    first = call(three, "gold.steward_override(%s, 'name', 'Ann B', 'eva', 'her word')", A)
    three.run_gold()
    second = call(three, "gold.steward_override(%s, 'name', 'Ann C', 'otto', 'she married')", A)
    three.run_gold()
    assert three.golden(A)["name"] == "Ann C"
    assert three.database.query(
        "select withdrawn_by, withdrawn_reason from gold.customer_steward_overrides where override_id = %s",
        (first,),
    ) == [("otto", f"replaced by override {second}")]


@pytest.mark.parametrize("ending", ["expired", "withdrawn"])
def test_after_an_override_with_an_end_the_one_before_counts_again(three, ending):
    lasting = call(three, "gold.steward_override(%s, 'email', 'perm@berg.se', 'maria', 'right')", A)
    with three.database.connect() as connection, connection.cursor() as cursor:
        cursor.execute(
            "select gold.steward_override(%s, 'email', 'temp@berg.se', 'jan', 'for a while', "
            "now() + interval '2 seconds')",
            (A,),
        )
        ((passing,),) = cursor.fetchall()
        assert f"override {lasting} of maria counts again: perm@berg.se" in connection.notices[0]
    three.run_gold()
    assert three.golden(A)["email"] == "temp@berg.se"
    assert call(
        three, "array_agg(kind) from gold.steward_review_queue where kind = 'colliding_overrides'"
    ) is None  # fmt: skip
    if ending == "expired":
        call(three, "pg_sleep(2)::text")
    else:
        call(three, "gold.steward_withdraw(%s, 'jan', 'not needed')", passing)
    three.run_gold()
    assert three.golden(A)["email"] == "perm@berg.se"
    call(three, "gold.steward_override(%s, 'email', 'new@berg.se', 'jan', 'for good')", A)
    three.run_gold()
    assert three.golden(A)["email"] == "new@berg.se"
    assert call(three, "count(*) from gold.standing_overrides") == 1


def test_overrides_follow_a_merge_where_the_newer_wins_and_come_back_with_the_un_merge(three):
    call(three, "gold.steward_override(%s, 'name', 'Ann B', 'eva', 'her word')", B)
    three.run_gold()
    call(three, "gold.steward_override(%s, 'name', 'Ann A', 'eva', 'her word')", A)
    three.run_gold()
    three.merge(A, into := B)
    three.run_gold()
    assert three.golden(into)["name"] == "Ann A"
    assert three.database.query(
        "select value, is_winner from gold.standing_overrides where global_customer_id = %s order by 1", (B,)
    ) == [("Ann A", True), ("Ann B", False)]
    three.split(B, A, "sales:1", "support:1")
    three.run_gold()
    assert (three.golden(A)["name"], three.golden(B)["name"]) == ("Ann A", "Ann B")


def test_decisions_and_overrides_share_their_numbers(three):
    numbers = [
        confirm(three, "sales:1", "sales:2"),
        call(three, "gold.steward_override(%s, 'city', 'Lund', 'eva', 'x')", A),
        confirm(three, "sales:1", "sales:3"),
    ]
    assert numbers == [1, 2, 3]
    call(three, "gold.steward_withdraw(2, 'eva', 'x')")
    refused(three, "decision 2 was withdrawn on .* already", "gold.steward_withdraw(2, 'eva', 'x')")


def test_the_id_of_a_merged_customer_still_does(three):
    three.merge(C, B)
    three.run_gold()
    call(three, "gold.steward_override(%s, 'city', 'Lund', 'eva', 'x')", C)
    three.run_gold()
    assert three.golden(B)["city"] == "Lund"
