-- One row per compared pair whose left side is one of these profiles.
select candidates.*
from unnest(%(profiles)s::bigint[]) as touched (profile_key)
inner join staging.compared_pairs as candidates
    on touched.profile_key = candidates.left_profile_key
