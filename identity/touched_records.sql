-- One row per live record of a touched profile.
select
    identity_inputs.record_key,
    identity_inputs.profile_key
from staging.identity_inputs
where
    not identity_inputs.is_deleted
    and (
        %(everything)s
        or identity_inputs.profile_key in (
            select touched_profiles.profile_key
            from touched_profiles
        )
    )
