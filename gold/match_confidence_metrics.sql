-- One row per run, blocking rule, decision and twentieth of the score: pairs compared since the mark.
create temp table pair_counts on commit drop as
select
    candidates.rule_id,
    candidates.match_decision,
    floor(candidates.total_confidence_score / 5) as twentieth,
    count(*) as pair_count
from staging.identity_match_candidates as candidates
where
    candidates.run_id > %(mark)s
    -- Not a profile with itself, nor a pair that no rule finds any more.
    and candidates.left_profile_key < candidates.right_profile_key
    and candidates.rules > 0
group by
    candidates.rule_id,
    candidates.match_decision,
    floor(candidates.total_confidence_score / 5);

insert into gold.match_confidence_metrics as known (
    run_id,
    rule_id,
    match_decision,
    score_from,
    pair_count
)
select
    %(run_id)s as run_id,
    pair_counts.rule_id,
    pair_counts.match_decision,
    least(pair_counts.twentieth, 19)::smallint * 5 as score_from,
    sum(pair_counts.pair_count) as pair_count
from pair_counts
group by
    pair_counts.rule_id,
    pair_counts.match_decision,
    least(pair_counts.twentieth, 19)
on conflict (run_id, rule_id, match_decision, score_from) do update
    set pair_count = known.pair_count + excluded.pair_count
