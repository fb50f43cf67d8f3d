"""Phase 2 on a real PostgreSQL and a real S3 server: exactly once, whatever comes and whatever happens."""

import gzip
import hmac
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress

import psutil
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from db.settings import PROJECT
from ingestion.minio_to_raw import copy_lines
from ingestion.readers import Chunk
from ingestion.sources import read_sources, sync_sources

SCRIPT = "ingestion/minio_to_raw.py"
LOAD = "ingestion/load_files.py"


def orders(*ids: object, **more: object) -> bytes:
    return b"".join(
        json.dumps(
            {"order_id": i, "event_ts": "2026-01-02T03:04:05Z", "customer_name": f"Name {i}", **more}
        ).encode()
        + b"\n"
        for i in ids
    )


def many_orders(start: int, count: int) -> bytes:
    return b"".join(
        b'{"order_id":"O%d","event_ts":"2026-01-02T03:04:05Z","customer_email":"someone.%d@example.com",'
        b'"customer_phone":"+1 555 010 %04d","customer_name":"Jane Example","zip_code":"94105"}\n'
        % (i, i, i % 9999)
        for i in range(start, start + count)
    )


def raw_content(database) -> list[tuple]:
    """What is in raw.sales_orders, told without the ids a run gives."""
    return database.query(
        "select object_key, line_number, is_deleted, event_ts, record_key, record_id, payload::text "
        "from raw.sales_orders join raw.ingested_objects using (object_id) order by 1, 2"
    )


def rejected(database) -> list[tuple]:
    return database.query(
        "select object_key, line_number, reason, line_text from raw.rejected_records order by 1, 2"
    )


def test_objects_become_rows_and_a_receipt(database, lake, run_phase):
    lake.put("sales/dt=2026-01-02/hr=03/a.jsonl", orders("A", 12, x='a "b" \\ c'))
    lake.put(
        "sales/dt=2026-01-02/hr=03/b.csv.gz",
        gzip.compress(b"order_id,event_ts,customer_name\nB,,Zo\xc3\xab\n"),
    )
    lake.put("support/any name at all.jsonl", b'{"ticket_id": "T", "_deleted": true}\n[]\n')
    lake.put("support/empty.jsonl", b"")
    lake.put("support/notes.txt", b"hello")
    lake.put("_truth/sales/a.jsonl", orders("never"))
    said = run_phase(SCRIPT).stdout
    assert "5 in, 4 out, 1 skipped objects, 4 objects, 1 rejected lines" in said

    assert [(row[0][-8:], row[1], row[5]) for row in raw_content(database)] == [
        ("/a.jsonl", 1, "A"),
        ("/a.jsonl", 2, "12"),
        ("b.csv.gz", 2, "B"),
    ]
    assert database.query("select payload ->> 'x' from raw.sales_orders where record_id = '12'") == [
        ('a "b" \\ c',)
    ]
    assert database.query(
        "select payload ->> 'customer_name' from raw.sales_orders where record_id = 'B'"
    ) == [("Zoë",)]
    assert database.query("select record_id, is_deleted from raw.support_tickets") == [("T", True)]
    assert rejected(database) == [("support/any name at all.jsonl", 2, "a list instead of an object", "[]")]
    assert database.query(
        "select right(object_key, 8), row_count, rejected_count from raw.ingested_objects order by object_key"
    ) == [("/a.jsonl", 2, 0), ("b.csv.gz", 1, 0), ("ll.jsonl", 1, 1), ("ty.jsonl", 0, 0)]
    ((detail, rows_in, rows_out),) = database.query(
        "select detail, rows_in, rows_out from gold.pipeline_phases"
    )
    assert (rows_in, rows_out, detail["skipped_examples"]) == (5, 4, "support/notes.txt")
    assert sorted(database.query("select upstream from identity.ingestion_watermarks")) == [
        ("sales/",),
        ("support/",),
    ]


def test_twice_changes_nothing(database, lake, run_phase):
    lake.put("sales/a.jsonl", orders("A", "B") + b"bad\n")
    run_phase(SCRIPT)
    before = raw_content(database), rejected(database)
    assert "nothing to do (no new objects)" in run_phase(SCRIPT).stdout
    assert (raw_content(database), rejected(database)) == before


def test_a_late_object_is_found_and_a_replaced_one_is_a_new_delivery(database, lake, run_phase):
    lake.put("sales/dt=2026-01-05/hr=00/a.jsonl", orders("A"))
    run_phase(SCRIPT)
    lake.put("sales/dt=2026-01-01/hr=00/late.jsonl", orders("L"))
    lake.put("sales/dt=2026-01-05/hr=00/a.jsonl", orders("A", corrected=True))
    run_phase(SCRIPT)
    assert [row[5] for row in raw_content(database)] == ["L", "A", "A"]
    assert database.query("select count(*), count(distinct run_id) from raw.sales_orders") == [(3, 2)]


def test_one_run_or_five_give_the_same(database, lake, run_phase, stores, monkeypatch):
    objects = {f"sales/dt=2026-01-0{i}/hr=00/o.jsonl": orders(i, i + 10) + b"{\n" for i in range(1, 6)}
    for key, data in objects.items():
        lake.put(key, data)
        run_phase(SCRIPT)
    in_five = [(*row[:3], *row[4:]) for row in raw_content(database)], rejected(database)

    other = stores.new_database()
    run_phase(SCRIPT, POSTGRES_DB=other.name)
    assert ([(*row[:3], *row[4:]) for row in raw_content(other)], rejected(other)) == in_five
    assert other.query("select count(distinct run_id) from raw.sales_orders") == [(1,)]
    stores.drop_database(other)


def living(group: int) -> list[int]:
    """The processes of a group that still run."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.NoSuchProcess, ProcessLookupError):
            if os.getpgid(process.pid) == group and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process.pid)
    return found


@pytest.mark.parametrize("after", [0.02, 0.3, 0.8])
def test_killed_in_the_middle_and_run_again(database, lake, run_phase, stores, after):
    """Enough for several processes; they and their transactions end with the one that is killed."""
    for i in range(12):
        lake.put(f"sales/part-{i}.jsonl", many_orders(i * 10_000, 10_000) + b"bad\n")
    command = [sys.executable, SCRIPT]
    started = subprocess.Popen(
        command, cwd=PROJECT, env=stores.environment(database, lake), start_new_session=True
    )
    while not database.query("select from gold.pipeline_runs"):
        time.sleep(0.01)
    time.sleep(after)
    os.kill(started.pid, signal.SIGKILL)
    started.wait()
    run_phase(SCRIPT)
    assert database.query("select count(*), count(distinct record_id) from raw.sales_orders") == [
        (120_000, 120_000)
    ]
    assert database.query(
        "select count(*), sum(row_count), sum(rejected_count) from raw.ingested_objects"
    ) == [(12, 120_000, 12)]
    assert len(rejected(database)) == 12
    assert living(started.pid) == []


def test_a_process_that_dies_is_told_and_the_rest_can_go_on(database, lake, run_phase, stores):
    for i in range(6):
        lake.put(f"sales/part-{i}.jsonl", many_orders(i * 20_000, 20_000))
    started = subprocess.Popen(
        [sys.executable, SCRIPT],
        cwd=PROJECT,
        env=stores.environment(database, lake),
        stderr=subprocess.PIPE,
        text=True,
    )
    process = psutil.Process(started.pid)
    while not (children := process.children()):
        time.sleep(0.005)
    children[0].kill()
    _, said = started.communicate()
    assert started.returncode == 1
    assert "ended by itself" in said and "Traceback" not in said
    run_phase(SCRIPT)
    assert database.query("select count(*) from raw.sales_orders") == [(120_000,)]


def test_a_second_one_at_work_is_told_to_wait(database, lake, run_phase):
    lake.put("sales/a.jsonl", orders("A"))
    run_phase(SCRIPT)
    with database.connect() as connection, connection.cursor() as cursor:
        cursor.execute("set application_name = 'mdm'; select pg_advisory_xact_lock(%s, 0)", (0x4D444D,))
        ended = run_phase(SCRIPT, check=False)
    assert ended.returncode == 1 and "Another run is at work" in ended.stderr


def test_one_that_was_killed_in_a_long_statement_is_not_waited_for(database, lake, run_phase, stores):
    lake.put("sales/a.jsonl", orders("A"))
    run_phase(SCRIPT)
    at_work = (
        "from db.phase import phase\n"
        "with phase('2', 'held') as work:\n"
        "    work.cursor.execute('select pg_sleep(600)')\n"
    )
    killed = subprocess.Popen(
        [sys.executable, "-c", at_work], cwd=PROJECT, env=stores.environment(database, lake)
    )
    while not database.query("select from pg_stat_activity where query = 'select pg_sleep(600)'"):
        time.sleep(0.005)
    killed.kill()
    killed.wait()
    run_phase(SCRIPT)


def test_an_object_that_is_put_back_as_it_was_is_a_new_delivery(database, lake, run_phase):
    for records in (["A"], ["B"], ["A"], ["A"], ["B"]):
        lake.put("sales/a.jsonl", orders(*records))
        run_phase(SCRIPT)
        assert "no new objects" in run_phase(SCRIPT).stdout
    taken = database.query("select record_id from raw.sales_orders order by object_id")
    assert taken == [("A",), ("B",), ("A",), ("B",)]
    assert database.query("select delivery from raw.ingested_objects order by object_id") == [
        (1,), (1,), (2,), (2,),
    ]  # fmt: skip


def test_a_run_that_a_later_one_has_overtaken_is_told_so(database, lake, run_phase):
    """Else what it writes would stand under a number that the phases after it are past already."""
    lake.put("sales/a.jsonl", orders("A"))
    run_phase(SCRIPT)
    database.execute("insert into gold.pipeline_runs (trigger) values ('pipeline')")
    ((overtaken,),) = database.query("select max(run_id) from gold.pipeline_runs")
    lake.put("sales/b.jsonl", orders("B"))
    run_phase(SCRIPT)
    lake.put("sales/c.jsonl", orders("C"))
    ended = run_phase(SCRIPT, check=False, MDM_RUN_ID=str(overtaken))
    assert ended.returncode == 1 and f"after this one, run {overtaken}," in ended.stderr
    assert [row[5] for row in raw_content(database)] == ["A", "B"]
    run_phase(SCRIPT)
    assert [row[5] for row in raw_content(database)] == ["A", "B", "C"]


def test_erased_records_stay_out(database, lake, run_phase):
    database.execute("insert into raw.erased_records values (raw.erased_hash('sales', 'Zoë'))")
    lake.put("sales/a.jsonl", orders("A", "Zoë"))
    run_phase(SCRIPT)
    assert [row[5] for row in raw_content(database)] == ["A"]
    assert rejected(database) == [("sales/a.jsonl", 2, "erased", "")]
    ((detail,),) = database.query("select detail from gold.pipeline_phases")
    assert (detail["erased_lines"], detail["rejected_lines"]) == (1, 1)


def test_the_hash_of_an_erased_record_is_hmac_sha256(database):
    ((secret, given_hash),) = database.query(
        "select secret, raw.erased_hash('sales', 'Zoë') from raw.erasure_secret"
    )
    assert bytes(given_hash) == hmac.digest(bytes(secret), "sales\x1fZoë".encode(), "sha256")


def test_what_only_postgresql_refuses_is_rejected_alone(database):
    (sales, *_) = read_sources(PROJECT / "ingestion" / "sources.toml")
    with database.connect() as connection, connection.cursor() as cursor:
        cursor.execute("select raw.create_source_table('sales', 'sales_orders')")
        rows = [
            b"5\x011\x01%d\x01f\x012026-01-01\x01a\x01%b" % (i, text)
            for i, text in enumerate([b"{}", b"{\\\\q"])
        ]
        ((object_id, line),) = copy_lines(cursor, sales, [Chunk(rows)])
    assert (object_id, line.line_number, line.reason, line.text) == (
        5,
        1,
        "PostgreSQL does not read it",
        "{\\q",
    )
    assert database.query("select line_number from raw.sales_orders") == [(0,)]


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)


@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    st.lists(
        st.builds(
            lambda record, name, ascii_only: json.dumps(
                record | {"order_id": name}, ensure_ascii=ascii_only
            ).encode(errors="surrogatepass"),
            st.dictionaries(st.text(), json_values, max_size=5),
            st.text(min_size=1, max_size=20),
            st.booleans(),
        ),
        min_size=20,
        max_size=200,
    )
)
def test_postgresql_reads_every_line_that_is_accepted(database, lake, run_phase, lines):
    lake.put("sales/fuzz.jsonl", b"\n".join(lines))
    run_phase(SCRIPT)
    assert not [row for row in rejected(database) if row[2].startswith("PostgreSQL")]
    # Every text in it can be taken out again, and is what was delivered.
    for payload, record_id in database.query("select payload::text, record_id from raw.sales_orders"):
        assert json.loads(payload)["order_id"] == record_id
    database.query("select payload::jsonb from raw.sales_orders")


def test_a_source_keeps_what_its_rows_were_read_by(database, lake, run_phase, tmp_path):
    crm = '[crm]\nprefix = "crm/"\nraw_table = "crm"\nrecord_id = "id"\n[crm.attributes]\nemail = "mail"\n'
    path = tmp_path / "sources.toml"

    def run(text: str):
        path.write_text(text)
        return run_phase(SCRIPT, "--sources", str(path), check=False)

    assert run(crm).returncode == 0
    assert run(crm.replace('"mail"', '["mail", "host"]')).returncode == 0
    assert database.query("select attributes, day_first, region from raw.sources") == [
        ({"email": ["mail", "host"]}, False, None)
    ]
    for changed, key in [
        (crm.replace('"id"', '"number"'), "record_id"),
        (crm.replace('raw_table = "crm"', 'raw_table = "people"'), "raw_table"),
        (crm.replace("[crm", "[other").replace('"crm/"', '"other/"'), "raw_table"),
        (crm.replace("[crm", "[other").replace('raw_table = "crm"', 'raw_table = "other"'), "prefix"),
    ]:
        ended = run(changed)
        assert (ended.returncode, "Traceback" in ended.stderr) == (2, False)
        assert f"key {key}" in ended.stderr


def test_changes_of_a_mapping_use_up_no_number_of_a_source(database, tmp_path):
    path = tmp_path / "sources.toml"
    crm = '[crm]\nprefix = "crm/"\nraw_table = "crm"\nrecord_id = "id"\nattributes = {{email = "email{}"}}\n'
    with database.connect() as connection, connection.cursor() as cursor:
        for number in range(5):
            path.write_text(crm.format(number))
            assert sync_sources(cursor, read_sources(path), path) == ["crm"]
        # As changes have used up numbers before.
        cursor.execute("select setval(pg_get_serial_sequence('raw.sources', 'source_number'), 66)")
        path.write_text(crm.format(number) + crm.format(0).replace("crm", "erp"))
        assert sync_sources(cursor, read_sources(path), path) == ["erp"]
        cursor.execute(
            "select source_system, source_number, source_bit, attributes from raw.sources order by 2"
        )
        assert cursor.fetchall() == [
            ("crm", 1, 1, {"email": ["email4"]}),
            ("erp", 2, 2, {"email": ["email0"]}),
        ]


def test_two_sources_may_exchange_their_folders(database, lake, run_phase, tmp_path):
    path = tmp_path / "sources.toml"
    source = '[{0}]\nprefix = "{1}/"\nraw_table = "{0}"\nrecord_id = "id"\n[{0}.attributes]\nemail = "mail"\n'
    for one, other in (("a", "b"), ("b", "a")):
        path.write_text(source.format("crm", one) + source.format("shop", other))
        lake.put(f"{one}/{one}{other}.jsonl", b'{"id": "1", "mail": "x@example.org"}')
        run_phase(SCRIPT, "--sources", str(path))
    assert database.query("select source_system, prefix from raw.sources order by 1") == [
        ("crm", "b/"),
        ("shop", "a/"),
    ]
    assert database.query("select object_key from raw.ingested_objects order by object_id") == [
        ("a/ab.jsonl",),
        ("b/ba.jsonl",),
    ]
    assert database.query("select count(*) from raw.crm") == [(2,)]


def test_many_rejected_lines_at_once(database, lake, run_phase):
    text = "\t\r\\ \x01 \N{SNOWMAN}"
    lake.put("sales/bad.jsonl", f"{text}\n".encode() * 3000)
    run_phase(SCRIPT)
    assert database.query("select line_text, count(*) from raw.rejected_records group by 1") == [(text, 3000)]


def test_load_puts_files_where_the_next_run_finds_them(database, lake, run_phase, tmp_path):
    path = tmp_path / "new orders (May).jsonl"
    path.write_bytes(orders("A", "B"))
    said = run_phase(LOAD, str(path), "--source", "sales").stdout
    assert "./run_mdm_pipeline.sh --no-producers" in said
    (found,) = lake.list("sales/")
    assert found.key.startswith("sales/dt=20") and "/new_orders_May_-" in found.key
    assert "is there already" in run_phase(LOAD, str(path), "--source", "sales").stdout
    own = shutil.copy(PROJECT / "ingestion/sources.toml", tmp_path / "our sources.toml")
    said = run_phase(LOAD, str(path), "--source", "sales", "--sources", str(own)).stdout
    assert f"./run_mdm_pipeline.sh --no-producers --sources '{own}'\n" in said
    assert [again.etag for again in lake.list("sales/")] == [found.etag]

    run_phase(SCRIPT)
    assert [row[5] for row in raw_content(database)] == ["A", "B"]
    path.write_bytes(orders("C"))
    run_phase(LOAD, str(path), "--source", "sales")
    run_phase(SCRIPT)
    assert database.query("select count(*) from raw.sales_orders") == [(3,)]


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["none.jsonl", "--source", "sales"], 3, "There is no file"),
        (["LICENSE", "--source", "sales"], 2, "ends in none of"),
        (["db", "--source", "sales"], 2, "is not a file"),
        (["ingestion/sources.toml", "--source", "crm"], 2, "there are sales, support, marketing"),
        (["a.jsonl", "--source", "sales", "--sources", "none.toml"], 3, "no sources file"),
        (["--source", "sales"], 2, "usage"),
    ],
)
def test_load_says_what_is_wrong(lake, run_phase, arguments, code, says):
    ended = run_phase(LOAD, *arguments, check=False)
    assert (ended.returncode, "Traceback" in ended.stderr) == (code, False)
    assert says in ended.stderr
    assert list(lake.list()) == []


def test_a_store_that_is_down_is_told(run_phase):
    for down in ({"MINIO_PORT": "1"}, {"POSTGRES_PORT": "1"}):
        ended = run_phase(SCRIPT, check=False, **down)
        assert ended.returncode == 3 and "Traceback" not in ended.stderr
    for wrong in ({"MINIO_ROOT_PASSWORD": "wrong"}, {"POSTGRES_PASSWORD": "wrong"}):
        ended = run_phase(SCRIPT, check=False, **wrong)
        assert ended.returncode == 2 and "Traceback" not in ended.stderr
