"""Phase 5: which model is in force, what is compared, what is written."""

from tests.pipeline import SOURCES, record, withdrawn

MODELS = "select model_version, method, is_current, reason from identity.match_models order by 1"


def compared(pipeline, *records: dict, retrain: bool = False) -> list[tuple]:
    """(pair, decision) of the newest comparisons in force, after a delivery."""
    pipeline.deliver(*records)
    pipeline.run("2", "5", *(["--retrain"] if retrain else []))
    return pipeline.query(
        "select distinct least(l.record_id, r.record_id) || ' ' || greatest(l.record_id, r.record_id), "
        "match_decision::text from staging.identity_match_candidates "
        "inner join staging.identity_inputs as l on l.profile_key = left_profile_key "
        "inner join staging.identity_inputs as r on r.profile_key = right_profile_key "
        "where rule_id > 0 order by 1"
    )


ASTRID = {"name": "Astrid Holm", "email": "astrid.holm@example.org"}


def test_too_little_data_to_train_takes_the_written_defaults_and_says_so(pipelines):
    pipeline = pipelines()
    assert compared(
        pipeline,
        record("shop:1", **ASTRID),
        record("shop:2", phone="+1 212 736 5004", **ASTRID),
        record("shop:3", name="Yuki Tanabe", phone="+1 212 736 5004"),
    ) == [("1 2", "AUTO_MERGE"), ("2 3", "REJECT")]
    ((version, method, is_current, reason),) = pipeline.query(MODELS)
    assert (version, method, is_current) == (1, "defaults", True)
    assert reason.startswith("there was none; ") and "too few to train on" in reason


def test_levels_scores_and_total_are_stored_and_add_up(pipeline):
    compared(
        pipeline,
        record("shop:1", postal_code="10001", **ASTRID),
        record("shop:2", name="Astrid Holm", phone="+1 212 736 5004", postal_code="10001"),
    )
    ((scores, levels, weight, confidence),) = pipeline.query(
        "select array[email_score, phone_score, given_name_score, family_name_score, postal_code_score], "
        "array[email_level, phone_level, given_name_level, family_name_level, postal_code_level], "
        "match_weight, total_confidence_score from staging.identity_match_candidates"
    )
    assert scores[:2] == [None, None] and levels[:2] == [None, None], "missing says nothing"
    assert min(scores[2:]) > 0
    assert abs(confidence - 100 / (1 + 2**-weight)) < 0.01


def test_a_model_is_kept_until_the_data_has_doubled_or_it_is_asked_for(pipelines):
    pipeline = pipelines()
    people = [record(f"shop:{i}", name=f"Name{chr(97 + i)} Holm", phone="+1 212 736 5004") for i in range(8)]
    compared(pipeline, *people[:2])
    compared(pipeline, *people[2:4])
    assert len(pipeline.query(MODELS)) == 1
    compared(pipeline, *people[4:])
    assert [row[2] for row in pipeline.query(MODELS)] == [False, True]
    assert "grown from 2 to 8 profiles" in pipeline.query(MODELS)[1][3]
    compared(pipeline, retrain=True)
    assert [row[2] for row in pipeline.query(MODELS)] == [False, False, True]
    assert "--retrain" in pipeline.query(MODELS)[2][3]
    # Every pair in force was compared under the new version.
    assert pipeline.query(
        "select model_version, count(*) from staging.identity_match_candidates where rule_id > 0 group by 1"
    ) == [(3, 28)]


def test_pairs_of_profiles_that_are_gone_are_compared_no_more(pipelines):
    pipeline = pipelines()
    pipeline.deliver(record("shop:1", **ASTRID), record("shop:2", phone="+1 212 736 5004", **ASTRID))
    pipeline.run("2", "4.5")
    # Listed, but not compared, when it goes.
    assert compared(pipeline, withdrawn("shop:2", "2026-01-02")) == []
    assert compared(pipeline, record("shop:2", "2026-01-03", phone="+1 212 736 5004", **ASTRID)) == [
        ("1 2", "AUTO_MERGE")
    ]
    assert compared(pipeline, record("shop:2", "2026-01-04", name="Yuki Tanabe"), retrain=True) == []


def test_a_hundred_equal_orders_are_compared_once(pipeline):
    found = compared(pipeline, *(record(f"shop:{i}", **ASTRID) for i in range(100)))
    assert found == []
    assert pipeline.query(
        "select left_profile_key = right_profile_key, rule_id, match_decision::text "
        "from staging.identity_match_candidates"
    ) == [(True, 0, "AUTO_MERGE")]


def test_what_was_compared_is_counted_by_rule_decision_and_score(pipeline):
    compared(
        pipeline,
        record("shop:1", **ASTRID),
        record("shop:2", phone="+1 212 736 5004", **ASTRID),
        record("shop:3", phone="+1 212 736 5004", **ASTRID),
        record("desk:1", name="Astrid Berg", email=ASTRID["email"]),
        record("desk:2", name="Yuki Tanabe", phone="+1 212 736 5004"),
    )
    counted = pipeline.query(
        "select rule_id, match_decision::text, score_from, pair_count from staging.compared_pair_counts "
        "order by 1, 2, 3"
    )
    assert counted == pipeline.query(
        "select rule_id, match_decision::text, (least(floor(total_confidence_score / 5), 19) * 5)::smallint, "
        "count(*) from staging.identity_match_candidates where rule_id > 0 group by 1, 2, 3 order by 1, 2, 3"
    )
    assert len({decision for _, decision, *_ in counted}) > 1


def test_a_mistake_in_the_stored_sources_is_not_ours(pipelines, tmp_path):
    # A source that has not delivered yet changes nothing.
    sources = tmp_path / "more.toml"
    sources.write_text(SOURCES + SOURCES.replace("shop", "web").split("[desk]")[0])
    assert compared(pipelines(sources), record("shop:1", **ASTRID)) == []


def test_a_new_version_draws_its_weights(pipelines):
    pipeline = pipelines()
    compared(pipeline, record("shop:1", **ASTRID), record("shop:2", **ASTRID))
    (run,) = pipeline.query("select run_id from identity.match_models")[0]
    chart = pipeline.lake.get(f"reports/run={run:06d}/match_weights.svg").decode()
    assert chart.startswith("<svg") and "model version 1" in chart and "Astrid" not in chart


def test_drift_makes_a_new_version_once_there_are_new_pairs(pipelines):
    pipeline = pipelines()
    people = [record(f"shop:{i}", name=f"Name{chr(97 + i)} Holm", phone="+1 212 736 5004") for i in range(8)]
    for start in (0, 4, 5):
        compared(pipeline, *people[start : start + (4 if not start else 1)])
    assert len(pipeline.query(MODELS)) == 1
    # As if many had been merged, of whom nobody's phone agreed since.
    pipeline.database.execute(
        "update gold.pipeline_phases set detail = detail || jsonb_build_object('match_levels', "
        "jsonb_build_object('phone', case when run_id = (select run_id from identity.match_models) "
        "then '[10, 0, 90000]'::jsonb else '[9500, 0, 0]'::jsonb end)) where script = 'run_matching_engine'"
    )
    pipeline.run("2", "5")
    assert len(pipeline.query(MODELS)) == 1, "nothing new, nothing done"
    compared(pipeline, people[6])
    reason = pipeline.query(MODELS)[1][3]
    assert reason.startswith("the data has drifted") and "phone" in reason
    compared(pipeline, people[7])
    assert len(pipeline.query(MODELS)) == 2
