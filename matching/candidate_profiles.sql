-- One row per live profile; of those that a pair to compare names, where these are asked for.
select
    match_profiles.profile_key,
    match_profiles.email,
    match_profiles.email_mailbox,
    match_profiles.phone,
    match_profiles.given_name,
    match_profiles.family_name,
    match_profiles.birth_date,
    match_profiles.address,
    match_profiles.city,
    match_profiles.postal_code,
    match_profiles.national_id
from staging.match_profiles
where
    match_profiles.record_count > 0
    and {which}
