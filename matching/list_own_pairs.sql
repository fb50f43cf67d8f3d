-- One row per list of profiles that several records share, since the mark: each is paired with itself, as rule 0.
insert into staging.candidate_lists (run_id, left_profile_keys, right_profile_keys, rules)
select
    %(run_id)s as run_id,
    array_agg(match_profiles.profile_key) as left_profile_keys,
    array_agg(match_profiles.profile_key) as right_profile_keys,
    array_agg(0) as rules
from staging.match_profiles
where match_profiles.run_id > %(mark)s and match_profiles.record_count > 1
group by staging.pair_list(match_profiles.profile_key)
