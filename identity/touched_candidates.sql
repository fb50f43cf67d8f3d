-- One row per compared pair of two touched profiles.
select candidates.*
from touched_profiles as left_side
inner join staging.identity_match_candidates as candidates
    on left_side.profile_key = candidates.left_profile_key
inner join touched_profiles as right_side
    on candidates.right_profile_key = right_side.profile_key
