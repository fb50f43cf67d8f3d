-- One row per touched profile; is_one_node: records that share it are one
-- person, as far as the model can tell.
select
    match_profiles.profile_key,
    match_profiles.birth_date,
    match_profiles.national_id,
    match_profiles.record_count = 1
    or candidates.match_decision = 'AUTO_MERGE'
    or (%(merge_flagged)s and candidates.match_decision = 'FLAG_REVIEW')
        as is_one_node,
    candidates.total_confidence_score
from touched_profiles
inner join staging.match_profiles
    on touched_profiles.profile_key = match_profiles.profile_key
left join staging.identity_match_candidates as candidates
    on
        match_profiles.record_count > 1
        and match_profiles.profile_key = candidates.left_profile_key
        and match_profiles.profile_key = candidates.right_profile_key
where match_profiles.record_count > 0
