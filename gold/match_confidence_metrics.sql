-- One row per blocking rule, decision and twentieth of the score: pairs compared since the mark, as phase 5 counted
-- them.
insert into gold.match_confidence_metrics as known (
    run_id,
    rule_id,
    match_decision,
    score_from,
    pair_count
)
select
    %(run_id)s as run_id,
    counts.rule_id,
    counts.match_decision,
    counts.score_from,
    sum(counts.pair_count) as pair_count
from staging.compared_pair_counts as counts
where counts.run_id > %(mark)s
group by
    counts.rule_id,
    counts.match_decision,
    counts.score_from
on conflict (run_id, rule_id, match_decision, score_from) do update
    set pair_count = known.pair_count + excluded.pair_count
