-- One row per list of pairs in force of any run: under a new model all are
-- compared again. What blocking lists now comes on top of what was compared before.
insert into staging.candidate_lists (run_id, left_profile_keys, right_profile_keys, rules)
select
    %(run_id)s,
    array_agg(candidates.left_profile_key),
    array_agg(candidates.right_profile_key),
    array_agg(candidates.rules)
from staging.compared_pairs as candidates
where
    candidates.rules >= 0
    and not exists (
        select 1
        from staging.identity_match_candidates_blocked as blocked
        where
            blocked.left_profile_key = candidates.left_profile_key
            and blocked.right_profile_key = candidates.right_profile_key
    )
group by staging.pair_list(candidates.left_profile_key);
