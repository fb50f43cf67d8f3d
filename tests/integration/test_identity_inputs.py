"""Phase 4 on literal records: the union of all sources, and the distinct profiles among them."""

from db import schema
from tests.pipeline import record, withdrawn

COUNTED = (
    "select profile_key, count(*) as records from staging.identity_inputs where not is_deleted group by 1"
)


def united(pipeline, *records: dict) -> list[int]:
    """The record counts of the profiles after a delivery, largest first; dead ones are 0."""
    pipeline.deliver(*records)
    pipeline.run("2", "4")
    ((disagreeing,),) = pipeline.query(
        f"select count(*) from staging.match_profiles full outer join ({COUNTED}) as counted "
        "using (profile_key) "
        "where coalesce(record_count, -1) <> coalesce(records, 0)"
    )
    assert disagreeing == 0, "every count is what it counts"
    return [n for (n,) in pipeline.query("select record_count from staging.match_profiles order by 1 desc")]


def test_records_that_say_the_same_are_one_profile_whatever_their_source(pipelines):
    pipeline = pipelines()
    astrid = {"name": "Astrid Holm", "email": "a.holm@example.org"}
    assert united(
        pipeline,
        record("shop:1", **astrid),
        record("desk:1", name="HOLM, ASTRID", email="A.Holm@example.org"),
        record("crm:1", phone="+1 212 736 5004", **astrid),
    ) == [2, 1]
    assert pipeline.query("select source_system, record_id, name from staging.identity_inputs order by 1") == [
        ("crm", "1", "Astrid Holm"), ("desk", "1", "Astrid Holm"), ("shop", "1", "Astrid Holm"),
    ]  # fmt: skip


def test_a_correction_moves_its_record_and_a_withdrawal_takes_it(pipelines):
    pipeline = pipelines()
    astrid = {"name": "Astrid Holm", "email": "a.holm@example.org"}
    united(pipeline, record("shop:1", **astrid), record("shop:2", **astrid))
    assert united(pipeline, record("shop:2", "2026-01-02", name="Astrid Nyman")) == [1, 1]
    assert united(pipeline, withdrawn("shop:2", "2026-01-03")) == [1, 0]
    assert united(pipeline, record("shop:2", "2026-01-04", name="Astrid Nyman")) == [1, 1], "it comes back"
    assert united(pipeline, record("shop:2", "2026-01-05", **astrid)) == [2, 0]


def test_a_correction_that_changes_nothing_matched_keeps_the_profile(pipelines):
    pipeline = pipelines()
    united(pipeline, record("shop:1", name="Astrid Holm", amount=10))
    profile = pipeline.query("select ctid::text, t::text from staging.match_profiles as t")
    assert united(pipeline, record("shop:1", "2026-01-02", name="ASTRID HOLM", amount=20)) == [1]
    assert pipeline.query("select ctid::text, t::text from staging.match_profiles as t") == profile


def test_records_that_say_nothing_are_profiles_of_their_own(pipelines):
    assert united(pipelines(), record("shop:1"), record("shop:2"), record("desk:1", name="n/a")) == [1, 1, 1]


def test_deliveries_that_add_up_to_nothing(pipelines):
    pipeline = pipelines()
    assert united(pipeline, withdrawn("shop:1", "2026-01-02")) == []
    assert united(pipeline, withdrawn("shop:1", "2026-01-03"), withdrawn("shop:1", "2026-01-04")) == []


def test_versions_that_were_staged_and_never_counted_leave_no_trace(pipelines):
    pipeline = pipelines()
    united(pipeline, record("shop:1", name="Astrid Holm"), record("shop:2", name="Astrid Holm"))
    for day, name in (("2026-01-02", "Bertil Nyman"), ("2026-01-03", "Carin Nyman")):
        pipeline.deliver(record("shop:2", day, name=name), record("shop:3", day, name=name))
        pipeline.run("2", "3")
    assert united(pipeline, record("shop:4", name="Carin Nyman")) == [3, 1]
    assert pipeline.value("select count(*) from staging.replaced_versions") == 0


def test_a_withdrawal_that_is_overtaken_by_a_new_version_before_it_is_counted(pipelines):
    pipeline = pipelines()
    united(pipeline, record("shop:1", name="Astrid Holm"))
    pipeline.deliver(withdrawn("shop:1", "2026-01-02"))
    pipeline.run("2", "3")
    assert united(pipeline, record("shop:1", "2026-01-03", name="Astrid Holm")) == [1]


def test_a_source_more_joins_the_union(pipelines, tmp_path):
    pipeline = pipelines()
    united(pipeline, record("shop:1", name="Astrid Holm"))
    text = pipeline.sources.read_text(encoding="utf-8")
    pipeline.sources = tmp_path / "more.toml"
    pipeline.sources.write_text(
        text + '[till]\nprefix = "till/"\nraw_table = "till_rows"\nrecord_id = "id"\n'
        '[till.attributes]\nname = "name"\n',
        encoding="utf-8",
    )
    assert united(pipeline, record("till:1", name="Astrid Holm")) == [2]
    assert pipeline.query("select source_system, name from staging.identity_inputs order by 1") == [
        ("shop", "Astrid Holm"), ("till", "Astrid Holm"),
    ]  # fmt: skip


def test_the_union_of_a_former_schema_becomes_a_view_without_a_miscount(pipelines):
    pipeline = pipelines()
    united(pipeline, record("shop:1", name="Astrid Holm"), record("shop:2", name="Bertil Nyman"))
    pipeline.database.execute(
        # The table as it was, counted by phase 4; a correction that is staged only.
        "create table staging.former as select * from staging.identity_inputs"
    )
    pipeline.deliver(record("shop:2", "2026-01-02", name="Astrid Holm"))
    pipeline.run("2", "3")
    pipeline.database.execute(
        "truncate staging.replaced_versions; drop view staging.identity_inputs cascade; "
        "alter table staging.former rename to identity_inputs"
    )
    apply_again(pipeline, "080_quality.sql")  # the review queue over the table
    for table in ("stg_shop", "stg_desk", "stg_crm"):
        pipeline.database.execute(f"alter table staging.{table} drop column profile_key")
    apply_again(pipeline, "020_staging.sql")
    assert pipeline.query("select * from gold.steward_review_queue") == []
    assert united(pipeline, record("shop:3", name="Astrid Holm")) == [3, 0]


def apply_again(pipeline, file: str) -> None:
    """A schema file as after a change of its text."""
    pipeline.database.execute("delete from gold.schema_files where file_name = %s", (file,))
    with pipeline.database.connect() as connection, connection.cursor() as cursor:
        assert schema.apply(cursor) == [file]


def test_an_erased_record_is_taken_out_of_the_profile_it_counted_in(pipelines):
    pipeline = pipelines()
    pipeline.deliver(record("shop:1", name="Astrid Holm"), record("shop:2", name="Bertil Nyman"))
    pipeline.run()
    pipeline.deliver(record("shop:1", "2026-01-02", name="Astrid Berg"))
    pipeline.run("2", "3")
    pipeline.run("6", "6")
    (customer,) = pipeline.query(
        "select global_customer_id from identity.customer_identity_map where record_id = '1'"
    )[0]
    pipeline.value("gold.erase_customer(%s, 'sam', 'asked for')", customer)
    assert united(pipeline, record("shop:3", name="Bertil Nyman")) == [2]
    assert pipeline.value("select count(*) from staging.replaced_versions") == 0
