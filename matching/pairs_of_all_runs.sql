-- One row per pair in force of any run: under a new model all are compared
-- again. What blocking lists now comes on top of what was compared before.
insert into staging.identity_match_candidates_blocked (
    left_profile_key, right_profile_key, run_id, rules, rule_id
)
select
    candidates.left_profile_key,
    candidates.right_profile_key,
    %(run_id)s,
    candidates.rules,
    candidates.rule_id
from staging.identity_match_candidates as candidates
where
    candidates.rule_id >= 0
    and not exists (
        select 1
        from staging.identity_match_candidates_blocked as blocked
        where
            blocked.left_profile_key = candidates.left_profile_key
            and blocked.right_profile_key = candidates.right_profile_key
    );
