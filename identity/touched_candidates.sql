-- One row per compared pair whose left side is a touched profile.
select candidates.*
from touched_profiles
inner join staging.compared_pairs as candidates
    on touched_profiles.profile_key = candidates.left_profile_key
