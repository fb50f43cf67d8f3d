-- One row per live profile with a value that can contradict another one.
select
    profiles.profile_key,
    profiles.birth_date,
    profiles.national_id
from {profiles} as profiles
where
    profiles.record_count > 0
    and num_nonnulls(profiles.birth_date, profiles.national_id) > 0
