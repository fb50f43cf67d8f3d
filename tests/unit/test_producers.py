"""The producers: exact counts, the same bytes again, days that follow each other, a believable population."""

import csv
import gzip
import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import phonenumbers
import polars as pl
import pytest
from rapidfuzz.distance import OSA

from db.errors import MdmError
from producers import delivery, noise
from producers.delivery import Folder, asked_days, parser, produce
from producers.draws import hashes
from producers.population import (
    FIXED,
    MOBILE,
    PERSONAL,
    SECOND_MOBILE,
    SWITCHBOARD,
    households,
    people,
    person_ids,
)
from producers.run_producers import SOURCES, main

PROJECT = Path(__file__).resolve().parents[2]


def deliver(folder: Path, *options: str) -> dict[str, dict[str, int]]:
    arguments = parser("").parse_args(list(options))
    store = Folder(folder)
    return produce(store, SOURCES, asked_days(store, SOURCES, arguments), arguments)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def good_lines(folder: Path, source: str) -> list[tuple[str, dict]]:
    """(partition's day, record) of every line that holds a record."""
    id_field = {given.name: given.id_field for given in SOURCES}[source]
    found = []
    for path in sorted((folder / source).rglob("*.jsonl")):
        for line in path.read_bytes().splitlines():
            try:
                record = json.loads(line)
            except ValueError:
                continue
            if isinstance(record, dict) and record.get(id_field, "X")[:1] not in ("X", ""):
                found.append((path.parts[-3], record))
    return found


def truth(folder: Path) -> dict[tuple[str, str], str]:
    found = {}
    for path in folder.glob("_truth/*/*/records.csv.gz"):
        with gzip.open(path, "rt", newline="") as file:
            for row in csv.DictReader(file):
                found[row["source_system"], row["record_id"]] = row["person_id"]
    return found


@pytest.fixture(scope="module")
def three_days(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("three_days")
    deliver(folder, "--days", "3")
    return folder


@pytest.mark.parametrize("records", [1, 7, 1000])
def test_a_day_has_exactly_the_records_asked_for(tmp_path, records):
    counts = deliver(tmp_path, "--records", str(records))
    for source in SOURCES:
        ids = {record[source.id_field] for _, record in good_lines(tmp_path, source.name)}
        assert len(ids) == records == counts[source.name]["records"]
        assert ids == {record for name, record in truth(tmp_path) if name == source.name}
        assert all(record_id[0] == source.letter for record_id in ids)
        assert counts[source.name]["broken"] >= 1


def test_the_same_arguments_give_the_same_bytes(tmp_path):
    for name in ("one", "two"):
        deliver(tmp_path / name, "--records", "200", "--days", "3", "--seed", "7")
    assert contents(tmp_path / "one") == contents(tmp_path / "two")
    deliver(tmp_path / "three", "--records", "200", "--days", "3", "--seed", "8")
    assert contents(tmp_path / "one") != contents(tmp_path / "three")


def test_batches_do_not_show_in_the_objects(tmp_path, monkeypatch):
    deliver(tmp_path / "one", "--records", "500", "--days", "2")
    monkeypatch.setattr(delivery, "BATCH_RECORDS", 30)
    deliver(tmp_path / "two", "--records", "500", "--days", "2")
    assert contents(tmp_path / "one") == contents(tmp_path / "two")


def test_large_hours_are_several_objects(tmp_path, monkeypatch):
    monkeypatch.setattr(delivery, "OBJECT_LINES", 10)
    deliver(tmp_path, "--records", "500")
    assert (tmp_path / "sales/dt=2026-01-01/hr=16/part-00003.jsonl").exists()
    assert len({record["order_id"] for _, record in good_lines(tmp_path, "sales")}) == 500


def test_a_run_delivers_the_day_after_the_last(tmp_path):
    for _ in range(2):
        deliver(tmp_path, "--records", "50")
    days = {path.name for path in (tmp_path / "support").iterdir()}
    assert {"dt=2026-01-01", "dt=2026-01-02"} <= days
    first = contents(tmp_path)
    deliver(tmp_path, "--records", "50", "--day", "2026-01-02")
    assert contents(tmp_path) == first


def test_a_day_cut_short_is_delivered_again(tmp_path):
    class Failing(Folder):
        def put(self, key, data):
            if "hr=09" in key:
                raise OSError("disk full")
            super().put(key, data)

    arguments = parser("").parse_args(["--records", "300"])
    with pytest.raises(OSError, match="disk full"):
        produce(Failing(tmp_path / "one"), SOURCES, range(1), arguments)
    deliver(tmp_path / "one", "--records", "300")
    deliver(tmp_path / "two", "--records", "300")
    assert contents(tmp_path / "one") == contents(tmp_path / "two")


def test_a_day_that_some_sources_lack_is_completed_as_it_was_planned(tmp_path):
    class Failing(Folder):
        def put(self, key, data):
            if key.startswith("support/dt=2026-01-02"):
                raise OSError("disk full")
            super().put(key, data)

    for name in ("one", "two"):
        deliver(tmp_path / name, "--records", "100")
    planned = ["--records", "70", "--junk-phone-share", "0.5"]
    with pytest.raises(OSError, match="disk full"):
        produce(Failing(tmp_path / "one"), SOURCES, range(1, 2), parser("").parse_args(planned))
    counts = deliver(tmp_path / "one", "--records", "40")
    assert [counts[source.name]["records"] for source in SOURCES] == [0, 70, 70]
    deliver(tmp_path / "two", *planned)
    assert contents(tmp_path / "one") == contents(tmp_path / "two")
    assert deliver(tmp_path / "one", "--records", "40")["sales"]["records"] == 40


def test_late_records_come_in_an_old_partition(three_days):
    late = list(three_days.glob("sales/dt=2026-01-01/*/part-late-2026-01-02.jsonl"))
    assert late
    for path in late:
        for line in path.read_text().splitlines():
            record = json.loads(line)
            assert record["order_id"].startswith("O0001")
            assert record["event_ts"].startswith("2026-01-01T" + path.parts[-2][-2:])


def test_corrections_and_withdrawals_speak_of_records_that_are_there(three_days):
    for source in SOURCES:
        versions: dict[str, list[dict]] = {}
        for _, record in good_lines(three_days, source.name):
            versions.setdefault(record[source.id_field], []).append(record)
        again = [records for records in versions.values() if len(records) > 1]
        assert len(again) > 100
        assert set(versions) == {record for name, record in truth(three_days) if name == source.name}
        corrected = [records for records in again if not any("_deleted" in record for record in records)]
        assert all(len({record["event_ts"] for record in records}) == len(records) for records in again)
        assert sum(records[0] != records[1] for records in corrected) == len(corrected)
        withdrawn = {number for number, records in versions.items() if any("_deleted" in r for r in records)}
        listed = set()
        for path in three_days.glob(f"_truth/{source.name}/*/withdrawn.csv.gz"):
            listed |= {line.split(",")[1] for line in gzip.decompress(path.read_bytes()).decode().split()[1:]}
        assert withdrawn == listed


def test_customers_return_and_change(three_days):
    by_person: dict[str, dict[str, set]] = {}
    people_of = truth(three_days)
    for day, record in good_lines(three_days, "sales"):
        if "_deleted" not in record:
            person = by_person.setdefault(people_of["sales", record["order_id"]], {})
            person.setdefault(day, set()).add(record["customer_email"])
    returned = [days for days in by_person.values() if len(days) > 1]
    assert len(returned) > 1000
    assert sum(len(set.union(*days.values())) > 1 for days in returned) > 50


def test_alike_activity_gives_everybody_as_many_records(tmp_path):
    deliver(tmp_path, "--records", "1000", "--population", "50", "--activity-spread", "0")
    assert set(Counter(truth(tmp_path).values()).values()) == {60}


def test_activity_has_a_heavy_tail(three_days):
    counts = sorted(Counter(truth(three_days).values()).values())
    assert counts[len(counts) // 2] < 8
    assert counts[-1] > 40


def test_junk_phone_share_is_of_all_records(tmp_path):
    deliver(tmp_path, "--records", "2000", "--junk-phone-share", "0.05")
    for name, field in (
        ("sales", "customer_phone"),
        ("support", "contact_phone"),
        ("marketing", "lead_phone"),
    ):
        phones = [record.get(field) for _, record in good_lines(tmp_path, name)]
        assert phones.count(noise.CALL_CENTRE_PHONE) / len(phones) == pytest.approx(0.05, abs=0.02)


def test_every_record_says_how_to_reach_somebody(three_days):
    for _, record in good_lines(three_days, "support"):
        assert (
            "_deleted" in record or record["contact_email"] is not None or record["contact_phone"] is not None
        )


@pytest.mark.parametrize("kind", noise.BROKEN_KINDS)
def test_a_broken_line_is_no_record(kind):
    whole = b'{"order_id":"O000000000001","customer_email":"a@b.com"}'
    numbers = hashes(1, "numbers", np.arange(200)).tolist()
    kinds = [int(hashes(n, "broken kind")[0]) % len(noise.BROKEN_KINDS) for n in numbers]
    line = noise.broken_line(
        numbers[kinds.index(noise.BROKEN_KINDS.index(kind))], whole, "order_id", "customer_email"
    )
    try:
        record = json.loads(line)
    except ValueError:
        return
    readable = (
        isinstance(record, dict) and record.get("order_id") and isinstance(record["customer_email"], str)
    )
    assert not readable


# ---- the population


def some_people(count: int = 20_000, day: int = 0, seed: int = 42):
    return people(seed, np.arange(count), np.full(count, day))


def test_a_person_does_not_depend_on_who_else_is_asked_for():
    alone = people(42, np.array([123]), np.array([5]))
    among = people(42, np.arange(200), np.full(200, 5))
    assert alone.emails(np.array([PERSONAL]))[0] == among.emails(np.full(200, PERSONAL))[123]
    assert alone.names().row(0) == among.names().row(123)
    assert alone.phones(np.array([MOBILE])).row(0) == among.phones(np.full(200, MOBILE)).row(123)


def test_people_change_in_the_course_of_time():
    def life(day):
        found = some_people(day=day)
        emails = found.emails(np.zeros(20_000, np.int64))
        phones = found.phones(np.zeros(20_000, np.int64))["subscriber"]
        return found.names(), emails, phones, found.postal_codes()

    now, later = life(0), life(40)
    assert now[0].equals(later[0])
    changed = [(before != after).mean() for before, after in zip(now[1:], later[1:], strict=True)]
    assert changed == pytest.approx([40 / 400, 40 / 500, 40 / 600], abs=0.02)


def test_names_are_many_and_skewed():
    names = some_people(100_000).names()
    surnames = names["surname"].value_counts(sort=True)
    assert len(surnames) > 5000
    assert 0.004 < surnames["count"][0] / 100_000 < 0.02
    assert names.select(pl.struct("given", "surname")).n_unique() > 80_000


def test_mailboxes_and_ids_are_a_persons_own():
    emails = some_people(100_000).emails(np.zeros(100_000, np.int64))
    assert emails.n_unique() > 99_900
    assert emails.str.contains(r"^[a-z0-9._]+@[a-z0-9.-]+\.[a-z]+$").all()
    assert person_ids(42, np.arange(100_000)).n_unique() == 100_000


@pytest.mark.parametrize("kind", [MOBILE, SECOND_MOBILE, FIXED, SWITCHBOARD])
def test_numbers_are_valid_and_read_back_from_every_spelling(kind, monkeypatch):
    monkeypatch.setattr(noise, "PHONE_TYPO_RATE", 0.0)
    monkeypatch.setattr(noise, "JUNK_PHONE_RATE", 0.0)
    found = some_people(3000)
    numbers = found.phones(np.full(3000, kind))
    parts = ("calling_code", "prefix", "subscriber")
    clean = numbers.select("+" + pl.concat_str(parts)).to_series()
    key = hashes(1, "key", np.arange(3000))
    written = noise.written_phones(numbers, np.full(3000, kind == SWITCHBOARD), key)
    for number, text in zip(clean, written, strict=True):
        parsed = phonenumbers.parse(text, "US")
        assert phonenumbers.is_valid_number(parsed)
        assert phonenumbers.format_number(parsed, phonenumbers.PhoneNumberFormat.E164) == number


def test_households_share_name_line_and_place():
    found = some_people(8000)
    home = households(42, np.arange(8000))
    fixed = found.phones(np.full(8000, FIXED)).select(pl.concat_str("calling_code", "prefix", "subscriber"))
    frame = found.names().with_columns(home=home, fixed=fixed.to_series(), code=found.postal_codes())
    sizes = frame.group_by("home").agg(
        pl.len(), pl.col("fixed", "code").n_unique(), pl.col("surname").mode().first()
    )
    assert (sizes["fixed"] == 1).all() and (sizes["code"] == 1).all()
    assert 1.3 < sizes["len"].mean() < 2
    assert (
        0.7
        < frame.join(sizes, on="home").select((pl.col("surname") == pl.col("surname_right")).mean()).item()
        < 1
    )


# ---- the noise


def test_a_slip_is_one_edit():
    words = pl.Series(["Margaret Thompson", "o'neil@example.com", "+1 212 555 0199"] * 300)
    key = hashes(1, "slips", np.arange(900))
    slipped = noise.mistyped(words, key, np.ones(900, bool))
    distances = [OSA.distance(*pair) for pair in zip(words, slipped, strict=True)]
    assert max(distances) == 1
    assert sum(distances) > 800
    assert words[0] == "Margaret Thompson"


def test_names_are_written_in_many_ways_and_alike_for_one_key():
    clean = pl.DataFrame(
        {"given": "Robert", "middle": "Éric", "surname": "Müller", "second_surname": None, "female": False},
        schema_overrides={"second_surname": pl.String},
    )
    clean = pl.concat([clean] * 3000)
    written = set(noise.written_names(clean, hashes(1, "names", np.arange(3000))))
    assert {
        "Robert Müller",
        "Robert Muller",
        "Müller, Robert",
        "R. Müller",
        "Bob Müller",
        "ROBERT MÜLLER",
    } <= written
    assert {"robert müller", "Robert É. Müller", "Dr. Robert Müller", "Robert Müller "} <= written
    assert len(set(noise.written_names(clean, np.full(3000, 99, np.uint64)))) == 1


def test_accents_are_dropped():
    assert noise.without_accents(pl.Series(["Łukasz Żółć", "Weiß", "José"])).to_list() == [
        "Lukasz Zolc",
        "Weiss",
        "Jose",
    ]


# ---- the command line


@pytest.mark.parametrize("script", ["run_producers", "sales", "support", "marketing"])
def test_help_tells_what_it_does(script):
    told = subprocess.run(
        [sys.executable, f"producers/{script}.py", "--help"],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert "--records" in told.stdout and "--output-dir" in told.stdout


@pytest.mark.parametrize(
    "options",
    [["--records", "0"], ["--day", "tomorrow"], ["--day", "2020-01-01"], ["--junk-phone-share", "2"]],
)
def test_a_wrong_argument_is_named(options, capsys):
    with pytest.raises(SystemExit) as ended:
        main(options)
    assert ended.value.code == 2
    assert options[0] in capsys.readouterr().err


def test_one_source_alone(tmp_path):
    subprocess.run(
        [sys.executable, "producers/support.py", "--records", "20", "--output-dir", str(tmp_path)],
        cwd=PROJECT,
        check=True,
        capture_output=True,
    )
    assert {path.name for path in tmp_path.iterdir()} == {"support", "_truth"}
    assert len(good_lines(tmp_path, "support")) == 20


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "sales").write_text("a file where a folder should be")
    with pytest.raises(MdmError, match="sales"):
        deliver(tmp_path, "--records", "5")


def test_a_spoiled_memory_is_named(tmp_path):
    (tmp_path / "_truth/sales").mkdir(parents=True)
    (tmp_path / "_truth/sales/days.json").write_text("[{")
    with pytest.raises(MdmError, match="days.json"):
        deliver(tmp_path, "--records", "5")


def test_many_broken_lines_spoil_no_good_one(tmp_path, monkeypatch):
    monkeypatch.setattr(delivery, "BROKEN_RATE", 2.0)
    counts = deliver(tmp_path, "--records", "200")
    assert counts["sales"]["broken"] == 400
    assert len({record["order_id"] for _, record in good_lines(tmp_path, "sales")}) == 200
