-- One row per record of a touched profile.
select identity_inputs.*
from touched_profiles
inner join staging.identity_inputs
    on touched_profiles.profile_key = identity_inputs.profile_key
