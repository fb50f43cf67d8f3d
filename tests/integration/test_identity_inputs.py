"""Phase 4 on literal records: the union of all sources, and the distinct profiles among them."""

from tests.pipeline import record, withdrawn


def united(pipeline, *records: dict) -> list[int]:
    """The record counts of the profiles after a delivery, largest first; dead ones are 0."""
    pipeline.deliver(*records)
    pipeline.run("2", "4")
    ((disagreeing,),) = pipeline.query(
        "select count(*) from staging.match_profiles full outer join "
        "(select profile_key, count(*) as records from staging.identity_inputs where not is_deleted group by 1) "
        "as counted using (profile_key) "
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
