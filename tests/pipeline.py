"""The pipeline on a database and a bucket of a test's own: literal rows in, literal customers out.

Phases 2 to 10 run inside the test's process, on the real stores; `start_script` starts one as a process.
The laws of the design are checked by `check_laws`, after every run of a test.
"""

import json
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

import db.lake
import db.phase
import db.postgres
from db.lake import Lake
from db.settings import PROJECT, settings
from gold import (
    run_conflict_detection,
    run_golden_cdc,
    run_golden_customers,
    run_golden_history,
    run_quality_metrics,
    run_steward_overrides,
)
from identity import run_identity_resolution
from ingestion import minio_to_raw
from matching import run_blocking, run_matching_engine
from producers import run_producers
from staging import run_identity_inputs, run_staging

PHASES = [
    ("2", minio_to_raw),
    ("3", run_staging),
    ("4", run_identity_inputs),
    ("4.5", run_blocking),
    ("5", run_matching_engine),
    ("6", run_identity_resolution),
    ("7", run_golden_customers),
    ("8", run_golden_history),
    ("9A", run_golden_cdc),
    ("9B", run_steward_overrides),
    ("10", run_conflict_detection),
    ("10", run_quality_metrics),
]
SCRIPTS = [str(Path(module.__file__).relative_to(PROJECT)) for _, module in PHASES]
ATTRIBUTES = ("email", "phone", "name", "birth_date", "address", "city", "postal_code", "national_id")
# Three sources that know every attribute by its own name, so that a story can say what it means.
SOURCES = "".join(
    f'[{source}]\nprefix = "{source}/"\nraw_table = "{source}_records"\nrecord_id = "id"\nevent_ts = "at"\n'
    f"[{source}.attributes]\n" + "".join(f'{attribute} = "{attribute}"\n' for attribute in ATTRIBUTES)
    for source in ("shop", "desk", "crm")
)
# What says when or in which run something was done, and numbers that only count what was done.
BOOKKEEPING = {
    "run_id", "created_run_id", "closed_run_id", "applied_run_id", "retired_run_id", "objects_mark",
    "object_id", "rejected_id", "lineage_id", "created_at", "updated_at", "valid_from", "valid_to",
    "previous_valid_to", "occurred_at", "changed_at", "trained_at", "ingested_at", "rejected_at",
    "measured_at", "detected_at", "uncounted_run_id",
}  # fmt: skip
RECEIPTS = {"gold.pipeline_runs", "gold.pipeline_phases", "identity.ingestion_watermarks"}
SCHEMAS = ("raw", "staging", "identity", "gold")


class Pipeline:
    """One database, one bucket, one sources file, and the phases on them."""

    def __init__(self, stores, database, lake: Lake, sources: Path, monkeypatch: pytest.MonkeyPatch):
        self.stores, self.database, self.lake, self.sources = stores, database, lake, sources
        self.monkeypatch = monkeypatch
        self.merge_flagged = False
        self.deliveries = 0

    # ---- what goes in

    def deliver(self, *records: dict) -> None:
        """One object per source of the records made by `record`."""
        by_source = defaultdict(list)
        for record in records:
            by_source[record["source"]].append(
                {key: value for key, value in record.items() if key != "source"}
            )
        self.deliveries += 1
        for source, rows in by_source.items():
            lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
            self.lake.put(f"{source}/dt=2026-01-01/hr=00/{self.deliveries:04}.jsonl", lines.encode())

    def produce(self, records: int, days: int = 1, *more: str) -> None:
        """The demo's producers deliver the next days."""
        self._point_here(0)
        run_producers.main(["--records", str(records), "--days", str(days), *more])

    def use_model(self, model: tuple) -> None:
        """Bring in the model that `model` of another pipeline returned, as its current version."""
        self.database.execute("update identity.match_models set is_current = false where is_current")
        self.database.execute(
            "insert into identity.match_models (method, is_current, profile_count, pair_count, parameters, "
            "configuration_hash, reason, run_id) values (%s, true, %s, %s, %s, %s, 'of the test', 0)",
            model,
        )

    # ---- the phases

    def run(self, first: str = "2", last: str = "10", *matching: str) -> int:
        """Run the phases from first to last as one run; returns its number."""
        numbers = [number for number, _ in PHASES]
        ending = len(numbers) - numbers[::-1].index(last)
        return self._run_modules([module for _, module in PHASES[numbers.index(first) : ending]], *matching)

    def run_script(self, script: str) -> int:
        """Run one script as a run of its own; returns its number."""
        return self._run_modules([PHASES[SCRIPTS.index(script)][1]])

    def _run_modules(self, modules: list, *matching: str) -> int:
        self._point_here(0)
        run_id = db.phase.open_run("test")
        self._point_here(run_id)
        arguments = {minio_to_raw: ["--sources", str(self.sources)], run_matching_engine: [*matching]}
        for module in modules:
            assert module.main(arguments.get(module, [])) == 0
        db.phase.close_run(run_id, "done")
        return run_id

    def start_script(self, script: str) -> subprocess.Popen:
        """Start a phase's script as a process, in a run of its own; its errors can be read."""
        self._point_here(0)
        given = {"MDM_RUN_ID": str(db.phase.open_run("test")), "MDM_SOURCES_FILE": str(self.sources)}
        return subprocess.Popen(
            [sys.executable, script],
            cwd=PROJECT,
            env=self.stores.environment(self.database, self.lake) | given,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )

    def _point_here(self, run_id: int) -> None:
        """What the project's modules read their settings from is this database and bucket."""
        given = replace(
            settings,
            postgres_db=self.database.name,
            minio_bucket=self.lake.bucket,
            mdm_run_id=run_id,
            mdm_quiet=True,
            mdm_merge_flagged=self.merge_flagged,
        )
        for module in (db.postgres, db.phase, run_identity_resolution):
            self.monkeypatch.setattr(module, "settings", given)
        self.monkeypatch.setattr(Lake, "from_settings", lambda *_: self.lake)

    # ---- what comes out

    def query(self, sql: str, *parameters: object) -> list[tuple]:
        """The rows of a query."""
        return self.database.query(sql, parameters or None)

    def value(self, sql: str, *parameters: object) -> object:
        """The one value of a query, or of a call like "gold.steward_confirm(...)"."""
        if not sql.lstrip().startswith(("select", "with")):
            sql = f"select {sql}"
        ((value,),) = self.query(sql, *parameters)
        return value

    def customers(self) -> set[frozenset[str]]:
        """The partition: each customer as the set of its records, 'source:id'."""
        return {
            frozenset(records)
            for (records,) in self.query(
                "select array_agg(source_system || ':' || record_id) from identity.customer_identity_map "
                "group by global_customer_id"
            )
        }

    def ids(self) -> dict[str, str]:
        """Each record's customer."""
        return dict(
            self.query(
                "select source_system || ':' || record_id, global_customer_id::text "
                "from identity.customer_identity_map"
            )
        )

    def together(self, *records: str) -> bool:
        """Whether the records are one customer."""
        ids = self.ids()
        return len({ids[record] for record in records}) == 1

    def decision(self, one: str, other: str) -> str:
        """The machine's decision about a pair of records; 'never compared' where no rule finds it."""
        found = self.query(
            "select match_decision::text from staging.identity_match_candidates "
            "inner join staging.identity_inputs as one on one.record_key = identity.record_key(%s, %s) "
            "inner join staging.identity_inputs as other on other.record_key = identity.record_key(%s, %s) "
            "where left_profile_key = least(one.profile_key, other.profile_key) "
            "and right_profile_key = greatest(one.profile_key, other.profile_key) and rule_id >= 0",
            *one.split(":"),
            *other.split(":"),
        )
        return found[0][0] if found else "never compared"

    def events_since(self, event_seq: int = 0) -> list[tuple]:
        """(change_type, customer, related customer) of the events after a number, in order."""
        return self.query(
            "select change_type::text, global_customer_id::text, related_customer_id::text "
            "from gold.customer_change_events where event_seq > %s order by event_seq",
            event_seq,
        )

    def model(self) -> tuple:
        """The current model, for `use_model`."""
        ((*row,),) = self.query(
            "select method, profile_count, pair_count, parameters::text, configuration_hash "
            "from identity.match_models where is_current"
        )
        return tuple(row)

    def tables(self) -> list[str]:
        """Every table of the four schemas but the receipts."""
        return [
            table
            for (table,) in self.query(
                "select schemaname || '.' || tablename from pg_tables where schemaname = any(%s) order by 1",
                list(SCHEMAS),
            )
            if table not in RECEIPTS
        ]

    def rows_on_disk(self) -> dict[str, list[tuple]]:
        """Every row with its place: equal before and after means that nothing at all was written."""
        return {
            table: self.query(f"select ctid::text, t::text from {table} as t order by ctid")
            for table in self.tables()
        }

    def content(self) -> dict[str, list[str]]:
        """Every row without its bookkeeping, sorted: what has to be equal however the runs went."""
        return {
            table: sorted(
                json.dumps(_without_bookkeeping(row), sort_keys=True)
                for (row,) in self.query(f"select to_jsonb(t) from {table} as t")
            )
            for table in self.tables()
        }

    def candidates(self) -> dict[tuple[int, int], tuple]:
        """The pairs in force, with weight and decision."""
        return {
            (left, right): rest
            for left, right, *rest in self.query(
                "select left_profile_key, right_profile_key, match_weight, match_decision::text "
                "from staging.identity_match_candidates "
                "inner join staging.match_profiles as l on l.profile_key = left_profile_key "
                "inner join staging.match_profiles as r on r.profile_key = right_profile_key "
                "where rule_id > 0 and l.record_count > 0 and r.record_count > 0"
            )
        }

    def links(self) -> dict[tuple[int, int], tuple]:
        """The edges of the graph, with status and reason."""
        return {
            (left, right): rest
            for left, right, *rest in self.query(
                "select left_profile_key, right_profile_key, status::text, refused_reason "
                "from identity.match_links"
            )
        }

    def golden(self) -> set[tuple]:
        """The golden records without ids and times."""
        return set(
            self.query(
                "select record_count, source_count, canonical_name, canonical_email, canonical_phone, "
                "canonical_birth_date::text, canonical_address, canonical_city, canonical_postal_code, "
                "canonical_national_id from gold.dim_customers"
            )
        )

    def close(self) -> None:
        """Drop the database."""
        self.stores.drop_database(self.database)


def record(named: str, at: str = "2026-01-01", /, **attributes: object) -> dict:
    """A line of the source's delivery: record('shop:1', email=...); more fields pass through."""
    source, record_id = named.split(":")
    return {"source": source, "id": record_id, "at": f"{at}T12:00:00Z", **attributes}


def withdrawn(named: str, at: str) -> dict:
    """A line that withdraws a record."""
    return record(named, at, _deleted=True)


def _without_bookkeeping(value: object) -> object:
    if isinstance(value, dict):
        return {key: _without_bookkeeping(inner) for key, inner in value.items() if key not in BOOKKEEPING}
    if isinstance(value, list):
        return [_without_bookkeeping(inner) for inner in value]
    return value


def difference(pipeline: Pipeline, one: str, two: str) -> list[tuple]:
    """Rows that only one of two queries has."""
    return pipeline.query(f"(({one}) except ({two})) union all (({two}) except ({one}))")


def check_laws(pipeline: Pipeline) -> None:
    """Laws 1, 3, 4, 5 and 6 of the design, on what the last run has left."""
    # 1: every delivered record is in exactly one customer, unless its latest version withdraws it.
    stated = " union ".join(
        f"select '{source}', record_id from (select distinct on (record_id) record_id, is_deleted "
        f"from raw.{table} inner join raw.ingested_objects using (object_id) "
        "order by record_id, event_ts desc, last_modified desc, object_key desc, line_number desc) as latest "
        "where not is_deleted"
        for source, table in pipeline.query("select source_system, raw_table from raw.sources")
    )
    mapped = "select source_system, record_id from identity.customer_identity_map"
    assert difference(pipeline, stated, mapped) == []
    assert (
        difference(
            pipeline,
            "select global_customer_id, count(*)::integer, count(distinct source_system)::integer "
            "from identity.customer_identity_map group by 1",
            "select global_customer_id, record_count, source_count from gold.dim_customers",
        )
        == []
    )
    # What customers are made of is counted as it is.
    assert (
        difference(
            pipeline,
            "select source_mask, record_count::integer, count(*) from (select global_customer_id, "
            "bit_or(source_bit) as source_mask, count(*) as record_count from identity.memberships "
            "inner join raw.sources using (source_number) group by 1) as made_of group by 1, 2",
            "select * from gold.customer_composition_totals where customer_count <> 0",
        )
        == []
    )
    # A value has a kind, and one that no record says is a steward's.
    assert (
        pipeline.query(
            "select value from gold.attribute_values left join gold.value_kinds using (kind) "
            "where rule is null or (record_count = 0 and rule <> 'steward_override')"
        )
        == []
    )
    # 3: an id is live, or leads to a live one, or is closed.
    assert (
        difference(
            pipeline,
            "select global_customer_id, record_count from identity.customers where status = 'live'",
            "select global_customer_id, record_count from gold.dim_customers",
        )
        == []
    )
    assert (
        pipeline.query(
            "select c.global_customer_id from identity.customers as c left join identity.customers as heir "
            "on heir.global_customer_id = identity.current_customer_id(c.global_customer_id) "
            "where heir.status is null or heir.merged_into is not null"
        )
        == []
    )
    # 4: what a steward called the same is together, what he called different is apart.
    assert (
        pipeline.query(
            "select one.decision_id from identity.active_steward_decisions as one "
            "inner join identity.active_steward_decisions as other using (decision_id, judgement) "
            "inner join identity.customer_identity_map as m on m.record_key = one.record_key "
            "inner join identity.customer_identity_map as n on n.record_key = other.record_key "
            "where (judgement = 'same' and m.global_customer_id <> n.global_customer_id) "
            "or (judgement = 'different' and one.side <> other.side "
            "and m.global_customer_id = n.global_customer_id)"
        )
        == []
    )
    # 5: gold, history and events agree.
    everything = "select * from gold.dim_customers"
    assert difference(pipeline, everything, "select * from gold.replay_events()") == []
    assert difference(pipeline, everything, "select * from gold.customers_as_of(now())") == []
    assert (
        pipeline.query(
            "select global_customer_id from gold.dim_customers_history where is_current "
            "group by 1 having count(*) > 1"
        )
        == []
    )
    # 6: what stands in the golden record is a golden value that somebody said.
    assert (
        difference(
            pipeline,
            "select global_customer_id, attribute::text, value from gold.customer_attribute_values "
            "where is_golden and (record_key is not null or rule = 'steward_override')",
            "select global_customer_id, replace(key, 'canonical_', ''), value from gold.dim_customers, "
            "jsonb_each_text(jsonb_strip_nulls(to_jsonb(dim_customers))) where key like 'canonical%'",
        )
        == []
    )
    assert (
        pipeline.query(
            "select global_customer_id, attribute, value from gold.customer_attribute_values "
            "group by 1, 2, 3 having count(*) > 1"
        )
        == []
    )
    # Links stand between records of one customer, and are refused between two.
    assert (
        pipeline.query(
            "select match_links.left_profile_key, match_links.right_profile_key, status "
            "from identity.match_links "
            "inner join staging.identity_inputs as l on l.profile_key = left_profile_key "
            "inner join staging.identity_inputs as r on r.profile_key = right_profile_key "
            "inner join identity.customer_identity_map as m on m.record_key = l.record_key "
            "inner join identity.customer_identity_map as n on n.record_key = r.record_key "
            "group by 1, 2, 3 "
            "having (status = 'standing' and not bool_or(m.global_customer_id = n.global_customer_id)) "
            "or (status = 'refused' and bool_and(m.global_customer_id = n.global_customer_id))"
        )
        == []
    )


def wait_for(condition: Callable[[], object], seconds: float = 60) -> None:
    """Ask until it holds."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)
