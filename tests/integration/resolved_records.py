"""Records as phases 4 and 6 leave them, written by hand, and a run of the gold phases over them."""

from dataclasses import replace
from uuid import UUID

import pytest

import db.phase
from gold import run_golden_cdc, run_golden_customers, run_golden_history, run_steward_overrides

PHASES = (run_golden_customers, run_golden_history, run_golden_cdc, run_steward_overrides)
SOURCES = ("marketing", "sales", "support")
ATTRIBUTES = ("name", "email", "phone", "birth_date", "national_id", "address", "city", "postal_code")
A, B, C = (str(UUID(int=number)) for number in (0xA, 0xB, 0xC))


def stage_sources(database) -> None:
    """The staging tables of SOURCES, in which a record's profile is what a test says."""
    for source in SOURCES:
        database.execute(
            "insert into raw.sources (source_system, prefix, raw_table, staging_table, record_id_field, "
            "day_first, attributes) values (%s, %s, %s, %s, 'id', false, '{}')",
            (source, f"{source}/", f"{source}_rows", f"stg_{source}_rows"),
        )
        database.execute("select staging.create_source_table(%s)", (f"stg_{source}_rows",))
        database.execute(f"alter table staging.stg_{source}_rows alter profile_key drop expression")
    database.execute("select staging.create_identity_inputs()")


class ResolvedRecords:
    """Seeds what phase 6 would leave and runs phases 7 to 9B as one run after another."""

    def __init__(self, database, monkeypatch: pytest.MonkeyPatch):
        self.database, self.monkeypatch = database, monkeypatch
        self.run_id = 0
        stage_sources(database)
        self.open_run()

    def open_run(self) -> None:
        """The run that what follows belongs to."""
        ((self.run_id,),) = self.database.query(
            "insert into gold.pipeline_runs (trigger) values ('test') returning run_id"
        )
        self.monkeypatch.setattr(
            db.phase, "settings", replace(db.phase.settings, mdm_run_id=self.run_id, mdm_quiet=True)
        )

    def add(self, customer: UUID, record: str, day: str = "2026-01-01", **attributes: str) -> None:
        """A record ('sales:1') of a customer, seen on a day; again: a correction."""
        source, record_id = record.split(":")
        values = [attributes.get(attribute) for attribute in ATTRIBUTES]
        self.database.execute(
            f"insert into staging.stg_{source}_rows (record_key, profile_key, run_id, object_id, line_number, "
            f"is_deleted, event_ts, record_id, {', '.join(ATTRIBUTES)}) "
            "values (identity.record_key(%s, %s), 0, %s, 0, 0, false, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s) "
            "on conflict (record_key) do update set event_ts = excluded.event_ts, "
            + ", ".join(f"{attribute} = excluded.{attribute}" for attribute in ATTRIBUTES),
            (source, record_id, self.run_id, f"{day} 00:00+00", record_id, *values),
        )
        self.move(customer, record)

    def move(self, customer: UUID, *records: str) -> None:
        """Records belong to a customer now; whoever is left without any is closed until `merge` says more."""
        self.database.execute(
            "insert into identity.customers (global_customer_id, status, record_count, created_run_id, "
            "run_id) values (%s, 'closed', 0, %s, %s) on conflict do nothing",
            (customer, self.run_id, self.run_id),
        )
        for record in records:
            source, record_id = record.split(":")
            self.database.execute(
                "update identity.customers set run_id = %s where global_customer_id = (select "
                "global_customer_id from identity.customer_identity_map "
                "where record_key = identity.record_key(%s, %s))",
                (self.run_id, source, record_id),
            )
            self.database.execute(
                "insert into identity.memberships (record_key, run_id, match_confidence, global_customer_id, "
                "assigned_by) values (identity.record_key(%s, %s), %s, 100, %s, 'link') "
                "on conflict (record_key) do update set global_customer_id = excluded.global_customer_id",
                (source, record_id, self.run_id, customer),
            )
        self.database.execute(
            "update identity.customers set run_id = %s where global_customer_id = %s", (self.run_id, customer)
        )
        self._count()

    def withdraw(self, record: str) -> None:
        """A record is withdrawn by its source."""
        source, record_id = record.split(":")
        self.database.execute(
            "with gone as (delete from identity.memberships where record_key = identity.record_key(%s, %s) "
            "returning global_customer_id) "
            "update identity.customers set run_id = %s from gone "
            "where customers.global_customer_id = gone.global_customer_id",
            (source, record_id, self.run_id),
        )
        self._count()

    def merge(self, gone: UUID, survivor: UUID) -> None:
        """A customer goes into another with all its records."""
        records = self.database.query(
            "select source_system || ':' || record_id from identity.customer_identity_map "
            "where global_customer_id = %s",
            (gone,),
        )
        self.move(survivor, *(record for (record,) in records))
        self.database.execute(
            "update identity.customers set status = 'merged', merged_into = %s where global_customer_id = %s",
            (survivor, gone),
        )
        self._lineage("merge", gone, survivor, len(records))

    def split(self, customer: UUID, into: UUID, *records: str) -> None:
        """Records leave a customer for one of their own."""
        self.move(into, *records)
        self._lineage("split", customer, into, len(records))

    def run_gold(self) -> None:
        """Phases 7 to 9B as one run, then the laws; what follows belongs to the next run."""
        for script in PHASES:
            assert script.main([]) == 0
        assert_gold_agrees(self.database)
        self.open_run()

    def golden(self, customer: UUID) -> dict[str, object]:
        """The golden record of a customer, without its nulls and bookkeeping; empty when there is none."""
        rows = self.database.query(
            "select jsonb_strip_nulls(to_jsonb(customers)) "
            "- '{global_customer_id, run_id, created_at, updated_at}'::text[] "
            "from gold.dim_customers as customers where global_customer_id = %s",
            (customer,),
        )
        return {key.replace("canonical_", ""): value for key, value in rows[0][0].items()} if rows else {}

    def values(self, customer: UUID, attribute: str) -> list[tuple]:
        """(value, is_golden, rule), golden first."""
        return self.database.query(
            "select value, is_golden, rule::text from gold.customer_attribute_values "
            "where global_customer_id = %s and attribute = %s order by is_golden desc, value",
            (customer, attribute),
        )

    def events(self) -> list[tuple]:
        """(change_type, customer, related customer, changed attributes) in order."""
        return [
            (change, customer, related, changed)
            for change, customer, related, changed in self.database.query(
                "select change_type::text, global_customer_id::text, related_customer_id::text, "
                "changed_attributes from gold.customer_change_events order by event_seq"
            )
        ]

    def snapshot(self) -> list[tuple]:
        """Every row of gold's data with its place, to see whether anything was written."""
        tables = (
            "dim_customers", "attribute_values", "dim_customers_history", "customer_changes",
            "customer_steward_overrides",
        )  # fmt: skip
        return [
            row
            for table in tables
            for row in self.database.query(f"select ctid::text, t::text from gold.{table} as t order by 1")
        ]

    def _count(self) -> None:
        self.database.execute(
            "update identity.customers set record_count = counted.n, "
            "status = (case when counted.n > 0 then 'live' when merged_into is null then 'closed' "
            "else 'merged' end)::identity.customer_status, merged_into = case when counted.n = 0 then merged_into end "
            "from (select c.global_customer_id, count(m.record_key) as n from identity.customers as c "
            "left join identity.customer_identity_map as m using (global_customer_id) group by 1) as counted "
            "where customers.global_customer_id = counted.global_customer_id"
        )

    def _lineage(self, change: str, from_customer: UUID, into_customer: UUID, records: int) -> None:
        self.database.execute(
            "insert into identity.customer_id_lineage (change, from_customer_id, into_customer_id, "
            "record_count, reason, run_id) values (%s, %s, %s, %s, 'told so', %s)",
            (change, from_customer, into_customer, records, self.run_id),
        )


def assert_gold_agrees(database) -> None:
    """Law 5: gold, history and events agree. Law 6: one golden value, of a known record or a steward."""
    columns = ", ".join(f"canonical_{attribute}" for attribute in ATTRIBUTES)
    shown = f"global_customer_id, run_id, record_count, source_count, {columns}"
    assert (
        _difference(
            database,
            f"select {shown}, updated_at from gold.dim_customers",
            f"select {shown}, valid_from from gold.dim_customers_history where is_current",
        )
        == []
    )
    everything = "select * from gold.dim_customers"
    assert _difference(database, everything, "select * from gold.replay_events()") == []
    assert _difference(database, everything, "select * from gold.customers_as_of(now())") == []
    assert database.query(
        "select max(event_seq) is not distinct from nullif(count(*), 0) from gold.customer_change_events"
    ) == [(True,)]
    assert (
        database.query(
            "select global_customer_id, attribute from gold.customer_attribute_values "
            "group by 1, 2 having count(*) filter (where is_golden) > 1"
        )
        == []
    )
    assert (
        database.query(
            "select global_customer_id, attribute, value from gold.customer_attribute_values "
            "group by 1, 2, 3 having count(*) > 1"
        )
        == []
    )
    # What is golden stands in the golden record; what is empty there was said by nobody, or not by the
    # record an address came from.
    assert (
        _difference(
            database,
            "select global_customer_id, attribute::text, value from gold.customer_attribute_values "
            "where is_golden",
            "select global_customer_id, replace(key, 'canonical_', ''), value from gold.dim_customers, "
            "jsonb_each_text(jsonb_strip_nulls(to_jsonb(dim_customers))) where key like 'canonical%'",
        )
        == []
    )


def _difference(database, one: str, two: str) -> list[tuple]:
    return database.query(f"(({one}) except ({two})) union all (({two}) except ({one}))")
