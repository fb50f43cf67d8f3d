"""Phase 3 on literal lines: one row per source record, its latest version, cleaned."""

import json
import shutil
from pathlib import Path

from staging.run_staging import cleaning_version
from tests.pipeline import record, withdrawn

STAGING = Path(__file__).parents[2] / "staging"

ROWS = (
    "select record_id, email, email_mailbox, phone, given_name, family_name, birth_date::text, postal_code, "
    "is_deleted, issues from staging.stg_{} order by record_id"
)


def staged(pipeline, *records: dict, source: str = "shop") -> list[tuple]:
    """The cleaned records after a delivery."""
    pipeline.deliver(*records)
    pipeline.run("2", "3")
    return pipeline.query(ROWS.format(source))


def test_a_line_is_cleaned_and_what_is_invalid_is_kept_with_its_reason(pipelines):
    assert staged(
        pipelines(),
        record("shop:1", name="Dr.  María Lindqvist", email=" Maria.Lindqvist+shop@GMAIL.com ",
               phone="(212) 736-5000", birth_date="1980-05-17", postal_code="10001-1234"),
        record("shop:2", name="n/a", email="maria@", phone="12", birth_date="31.02.1980"),
    ) == [
        ("1", "maria.lindqvist+shop@gmail.com", "marialindqvist@gmail.com", "+12127365000", "maria",
         "lindqvist", "1980-05-17", "10001", False, None),
        ("2", None, None, None, None, None, None, None, False, {
            "email": {"value": "maria@", "reason": "no_domain"},
            "phone": {"value": "12", "reason": "too_short"},
            "name": {"value": "n/a", "reason": "placeholder"},
            "birth_date": {"value": "31.02.1980", "reason": "no_such_day"},
        }),
    ]  # fmt: skip


def test_the_newest_event_wins_whenever_it_comes(pipelines):
    pipeline = pipelines()
    newest = record("shop:1", "2026-01-09", name="Astrid Holm")
    older = record("shop:1", "2026-01-02", name="Bertil Nyman")
    # In one object, the newest first; then the older one again, late.
    assert [row[4] for row in staged(pipeline, newest, older)] == ["astrid"]
    assert [row[4] for row in staged(pipeline, older)] == ["astrid"]
    assert pipeline.value("select count(*) from raw.shop_records") == 3, "raw keeps all"
    assert [row[4] for row in staged(pipeline, record("shop:1", "2026-01-10", name="Carin Holm"))] == [
        "carin"
    ]


def test_of_two_with_the_same_time_the_later_delivery_wins(pipelines):
    pipeline = pipelines()
    staged(pipeline, record("shop:1", name="Astrid Holm"))
    assert [row[4] for row in staged(pipeline, record("shop:1", name="Bertil Holm"))] == ["bertil"]
    # Within an object the later line.
    both = (record("shop:2", name="Carin Holm"), record("shop:2", name="Dag Holm"))
    assert [row[4] for row in staged(pipeline, *both)] == ["bertil", "dag"]


def test_a_withdrawn_record_says_nothing_more(pipelines):
    pipeline = pipelines()
    staged(pipeline, record("shop:1", name="Astrid Holm", email="a.holm@example.org"))
    assert staged(pipeline, withdrawn("shop:1", "2026-01-02")) == [
        ("1", None, None, None, None, None, None, None, True, None)
    ]


def test_the_same_id_in_two_sources_is_two_records(pipelines):
    pipeline = pipelines()
    lines = record("shop:1", name="Astrid Holm"), record("desk:1", name="Bertil Nyman")
    assert [row[4] for row in staged(pipeline, *lines)] == ["astrid"]
    assert [row[4] for row in pipeline.query(ROWS.format("desk"))] == ["bertil"]


def test_a_changed_mapping_reads_the_source_again(pipelines, tmp_path):
    sources = tmp_path / "own.toml"
    text = (
        '[shop]\nprefix = "shop/"\nraw_table = "shop_records"\nrecord_id = "id"\nevent_ts = "at"\n'
        '[shop.attributes]\nname = "name"\nphone = "phone"\n'
    )
    sources.write_text(text)
    pipeline = pipelines(sources)
    line = record("shop:1", name="Astrid Holm", phone="020 7946 0958", work_phone="+1 212 736 5004")
    assert [row[3] for row in staged(pipeline, line)] == [None]
    sources.write_text(text.replace('event_ts = "at"\n', 'event_ts = "at"\nregion = "GB"\n'))
    assert [row[3] for row in staged(pipeline)] == ["+442079460958"]
    sources.write_text(text.replace('"phone"\n', '"work_phone"\n'))
    assert [row[3] for row in staged(pipeline)] == ["+12127365004"]
    before = pipeline.rows_on_disk()
    staged(pipeline)
    assert pipeline.rows_on_disk() == before


def test_a_mapped_field_that_no_line_has_is_told(pipelines, tmp_path, capsys):
    sources = tmp_path / "own.toml"
    sources.write_text(
        '[crm]\nprefix = "crm/"\nraw_table = "crm"\nrecord_id = "id"\nevent_ts = "at"\n[crm.attributes]\n'
        'name = ["first", "nmae"]\nemail = "contact.mail"\ncity = "größe"\nphone = "phone"\n'
    )
    pipeline = pipelines(sources)
    people = [
        record(f"crm:{i}", first="Ana", phone=None, contact={"mail": "a@example.org"}) for i in range(30)
    ]
    people[0]["größe"] = "Oslo"

    def told() -> list[str]:
        (warnings,) = pipeline.query(
            "select detail -> 'warnings' from gold.pipeline_phases where phase = '3' order by run_id desc limit 1"
        )[0]
        said = [line for line in capsys.readouterr().err.splitlines() if line.startswith("warning: ")]
        assert said == [f"warning: {warning}" for warning in warnings or []]
        return [warning.partition(". ")[0] for warning in warnings or []]

    missing = ["crm: no line has the field nmae (name)", "crm: no line has the field contact.mail (email)"]
    staged(pipeline, *people[:10], source="crm")
    assert told() == missing
    staged(pipeline, *people[10:], source="crm")
    assert told() == [], "later it may just be rare"


def test_records_cleaned_by_a_former_version_are_cleaned_again(pipelines):
    pipeline = pipelines()
    cleaned = staged(pipeline, record("shop:1", name="Astrid Holm"), record("desk:1", name="Bertil Nyman"))
    pipeline.database.execute("update staging.stg_shop set given_name = 'dr astrid'")
    assert staged(pipeline) != cleaned
    pipeline.database.execute(
        "update identity.ingestion_watermarks set configuration = 'a former one' "
        "where phase = 'run_staging' and upstream = 'raw.shop_records'"
    )
    assert staged(pipeline) == cleaned


def test_any_change_of_the_cleaning_is_another_version(tmp_path):
    versions = set()
    for place, name in enumerate(
        ["", "source_records.py", "normalizers/words.toml", "normalizers/phones.py"]
    ):
        folder = tmp_path / str(place)
        shutil.copytree(STAGING, folder)
        if name:
            (folder / name).write_bytes((folder / name).read_bytes() + b"# other\n")
        versions.add(cleaning_version(folder))
    assert len(versions) == 4
    assert cleaning_version(STAGING) in versions


def test_hostile_text_passes_through_as_text(pipelines):
    pipeline = pipelines()
    name = 'Robert\'); drop table staging.stg_shop; -- \\N \t "x", \u202eevil'
    (row,) = staged(pipeline, record("shop:1", name=name, email="a,b\n@example.org"))
    assert row[0] == "1" and "email" in row[9]
    (payload,) = pipeline.query("select payload::text from raw.shop_records")[0]
    assert json.loads(payload)["name"] == name


def test_of_two_deliveries_of_an_object_at_one_time_the_later_wins(pipelines):
    """Where a store's times are whole seconds."""
    pipeline = pipelines()
    for name in ("Astrid Holm", "Bertil Holm"):
        pipeline.lake.put("shop/one.jsonl", json.dumps({"id": "1", "name": name}).encode())
        pipeline.run("2", "2")
        pipeline.database.execute("update raw.ingested_objects set last_modified = '2026-01-01'")
        pipeline.database.execute("update raw.shop_records set event_ts = '2026-01-01'")
        pipeline.run("3", "3")
    assert pipeline.value("select name from staging.stg_shop") == "Bertil Holm"
