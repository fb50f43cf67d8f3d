-- One row per run, blocking rule, decision and twentieth of the score: pairs compared since the mark.
insert into gold.match_confidence_metrics as known (
    run_id,
    rule_id,
    match_decision,
    score_from,
    pair_count
)
select
    %(run_id)s as run_id,
    candidates.rule_id,
    candidates.match_decision,
    (least(floor(candidates.total_confidence_score / 5), 19) * 5)::smallint
        as score_from,
    count(*) as pair_count
from staging.identity_match_candidates as candidates
where
    candidates.run_id > %(mark)s
    -- Not a profile with itself, nor a pair that no rule finds any more.
    and candidates.left_profile_key < candidates.right_profile_key
    and candidates.rule_id > 0
group by
    candidates.rule_id,
    candidates.match_decision,
    (least(floor(candidates.total_confidence_score / 5), 19) * 5)::smallint
on conflict (run_id, rule_id, match_decision, score_from) do update
    set pair_count = known.pair_count + excluded.pair_count
