-- One row per live record of a touched profile.
select
    identity_inputs.record_key,
    identity_inputs.profile_key
from touched_profiles
inner join staging.identity_inputs
    on touched_profiles.profile_key = identity_inputs.profile_key
where not identity_inputs.is_deleted
