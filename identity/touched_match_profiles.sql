-- One row per given profile.
select match_profiles.*
from unnest(%(profiles)s::bigint[]) as touched (profile_key)
inner join staging.match_profiles
    on touched.profile_key = match_profiles.profile_key
