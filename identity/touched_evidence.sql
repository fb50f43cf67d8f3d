-- One row per other compared pair of touched profiles.
select
    candidates.left_profile_key,
    candidates.right_profile_key,
    candidates.match_weight
from touched_profiles as left_side
inner join staging.identity_match_candidates as candidates
    on left_side.profile_key = candidates.left_profile_key
inner join touched_profiles as right_side
    on candidates.right_profile_key = right_side.profile_key
where
    candidates.rule_id > 0
    and candidates.left_profile_key < candidates.right_profile_key
    and not (
        candidates.match_decision = 'AUTO_MERGE'
        or (%(merge_flagged)s and candidates.match_decision = 'FLAG_REVIEW')
    )
