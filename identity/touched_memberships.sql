-- One row per record of a touched profile that has a customer.
select customer_identity_map.*
from touched_profiles
inner join staging.identity_inputs
    on touched_profiles.profile_key = identity_inputs.profile_key
inner join identity.customer_identity_map
    on identity_inputs.record_key = customer_identity_map.record_key
