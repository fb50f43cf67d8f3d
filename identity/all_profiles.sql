-- One row per live profile: all are resolved again.
create temp view touched_profiles as
select
    match_profiles.profile_key,
    0 as step
from staging.match_profiles
where match_profiles.record_count > 0
