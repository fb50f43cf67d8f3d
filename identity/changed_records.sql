-- One row per record that changed since the mark: the customer it is in, and its first one, where it is another.
select
    inputs.record_key,
    inputs.profile_key,
    inputs.source_number,
    map.global_customer_id as old_customer,
    map.home_customer_id as home_customer,
    map.match_confidence as old_confidence,
    map.assigned_by as old_assigned_by,
    inputs.is_deleted,
    map.profile_key as old_profile_key
from staging.identity_inputs as inputs
left join identity.memberships as map
    on inputs.record_key = map.record_key
where inputs.run_id > %(input_mark)s
