"""Phase 8: versions that never overlap, and the table as it was."""

import psycopg2
import pytest
from resolved_records import A, B

from db import build_indexes
from gold import run_golden_history

VERSIONS = (
    "select version, canonical_name, is_current, merged_into::text "
    "from gold.dim_customers_history where global_customer_id = %s order by version"
)


def test_a_change_closes_one_version_and_opens_the_next(resolved):
    resolved.add(A, "sales:1", name="Ann")
    resolved.run_gold()
    resolved.add(A, "sales:1", name="Anna")
    resolved.run_gold()
    assert resolved.database.query(VERSIONS, (A,)) == [(1, "Ann", False, None), (2, "Anna", True, None)]
    assert resolved.database.query(
        "select first.valid_to = second.valid_from from gold.dim_customers_history as first, "
        "gold.dim_customers_history as second where first.version = 1 and second.version = 2"
    ) == [(True,)]


def test_keys_that_the_first_load_makes_after_its_rows_are_those_of_the_schema(resolved):
    keys = (
        "select conrelid::regclass::text, conname, pg_get_constraintdef(oid) from pg_constraint "
        "where connamespace = 'gold'::regnamespace order by 1, 2"
    )
    indexes = "select indexname, indexdef from pg_indexes where schemaname = 'gold' order by 1"
    before = resolved.database.query(keys), resolved.database.query(indexes)
    resolved.add(A, "sales:1", name="Ann")
    resolved.run_gold()
    assert build_indexes.main([]) == 0
    assert (resolved.database.query(keys), resolved.database.query(indexes)) == before


def test_a_merged_customer_is_closed_and_says_into_whom(resolved):
    resolved.add(A, "sales:1", name="Ann")
    resolved.add(B, "sales:2", name="Ann")
    resolved.run_gold()
    resolved.merge(B, into := A)
    resolved.run_gold()
    assert resolved.database.query(VERSIONS, (B,)) == [(1, "Ann", False, str(into))]


def test_a_customer_who_returns_goes_on_with_the_next_version_after_a_gap(resolved):
    resolved.add(A, "sales:1", name="Ann")
    resolved.run_gold()
    resolved.withdraw("sales:1")
    resolved.run_gold()
    assert resolved.database.query("select * from gold.customers_as_of(now())") == []
    resolved.add(A, "sales:1", name="Ann")
    resolved.run_gold()
    assert resolved.database.query(VERSIONS, (A,)) == [(1, "Ann", False, None), (2, "Ann", True, None)]


def test_a_customer_who_goes_is_closed_also_where_phase_8_came_before_phase_7(resolved):
    resolved.add(A, "sales:1", name="Ann")
    resolved.run_gold()
    resolved.withdraw("sales:1")
    assert run_golden_history.main([]) == 0
    resolved.open_run()
    resolved.run_gold()
    assert resolved.database.query(VERSIONS, (A,)) == [(1, "Ann", False, None)]


def test_the_table_as_it_was_after_each_run(resolved):
    seen = []
    for name in ("Ann", "Anna", "Anna Berg"):
        resolved.add(A, "sales:1", name=name)
        resolved.run_gold()
        seen.append(resolved.database.query("select now(), dim_customers::text from gold.dim_customers"))
    for ((moment, row),) in seen:
        assert resolved.database.query("select c::text from gold.customers_as_of(%s) as c", (moment,)) == [
            (row,)
        ]
    assert resolved.database.query("select * from gold.customers_as_of('2020-01-01')") == []


@pytest.mark.parametrize(
    "version",
    [
        "(2, '2026-01-05', null, null)",  # a second current version
        "(2, '2026-01-05', null, '2026-01-09')",  # before the end of the first
        "(3, '2026-02-05', null, '2026-01-09')",  # a version left out
        "(2, '2026-02-05', null, '2026-02-01')",  # not the end of the first
        "(2, '2026-02-05', '2026-02-04', '2026-01-09')",  # ends before it begins
        "(1, '2026-02-05', null, null)",  # a second first
    ],
)
def test_the_schema_refuses_versions_that_overlap_or_do_not_follow(database, version):
    insert = (
        "insert into gold.dim_customers_history (version, valid_from, valid_to, previous_valid_to, "
        "global_customer_id, run_id, closed_run_id, record_count, source_count) "
        "select v::int, f::timestamptz, t::timestamptz, p::timestamptz, %s, 1, "
        "case when t is not null then 1 end, 1, 1 from (values {}) as given (v, f, t, p)"
    )
    database.execute(insert.format("(1, '2026-01-01', '2026-01-09', null)"), (A,))
    with pytest.raises(psycopg2.IntegrityError):
        database.execute(insert.format(version), (A,))
    database.execute(insert.format("(2, '2026-01-09', null, '2026-01-09')"), (A,))


@pytest.mark.parametrize(
    "change",
    [
        "update gold.dim_customers_history set valid_to = valid_to + interval '1 day'",
        "delete from gold.dim_customers_history",
    ],
)
def test_the_schema_keeps_the_end_on_which_a_version_follows(resolved, change):
    for name in ("Ann", "Anna"):
        resolved.add(A, "sales:1", name=name)
        resolved.run_gold()
    with pytest.raises(psycopg2.errors.ForeignKeyViolation):
        resolved.database.execute(f"{change} where version = 1")


def test_the_timeline_tells_a_customers_story_in_order(resolved):
    resolved.add(A, "sales:1", name="Ann")
    resolved.add(B, "sales:2", name="Ann Berg")
    resolved.run_gold()
    resolved.merge(B, A)
    resolved.run_gold()
    resolved.database.execute("select gold.steward_split(%s, array['sales:2'], 'eva', 'another Ann')", (A,))
    resolved.split(A, B, "sales:2")
    resolved.run_gold()

    def told(customer):
        return [
            what for (what,) in resolved.database.query(
                "select what from gold.customer_timeline(%s)", (customer,)
            )
        ]  # fmt: skip

    assert told(A) == ["version 1", "merge", "version 2", "decision 1", "split", "version 3"]
    assert told(B) == ["version 1", "merge", "closed", "decision 1", "split", "version 2"]
