-- One row per profile that a pair to compare names.
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
    and (
        %(everything)s
        or match_profiles.profile_key in (
            select blocked.left_profile_key
            from staging.identity_match_candidates_blocked as blocked
            where blocked.run_id > %(mark)s and blocked.rule_id >= 0
            union
            select blocked.right_profile_key
            from staging.identity_match_candidates_blocked as blocked
            where blocked.run_id > %(mark)s and blocked.rule_id >= 0
        )
    )
