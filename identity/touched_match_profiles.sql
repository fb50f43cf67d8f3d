-- One row per touched profile.
select match_profiles.*
from touched_profiles
inner join staging.match_profiles
    on touched_profiles.profile_key = match_profiles.profile_key
