-- One row per profile that several records share, since the mark: it is paired with itself, as rule 0.
insert into staging.identity_match_candidates_blocked (
    left_profile_key, right_profile_key, run_id, rules, rule_id
)
select
    match_profiles.profile_key as left_profile_key,
    match_profiles.profile_key as right_profile_key,
    %(run_id)s as run_id,
    0 as rules,
    0 as rule_id
from staging.match_profiles
where match_profiles.run_id > %(mark)s and match_profiles.record_count > 1
