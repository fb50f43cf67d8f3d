-- One row per record that changed since the mark: the customer it is in, and its first one.
select
    inputs.record_key,
    inputs.profile_key,
    inputs.source_number,
    map.global_customer_id as old_customer,
    coalesce(map.home_customer_id, map.global_customer_id) as home_customer,
    map.match_confidence as old_confidence,
    map.assigned_by as old_assigned_by,
    map.profile_key as old_profile_key,
    inputs.is_deleted
from staging.identity_inputs as inputs
left join identity.memberships as map
    on inputs.record_key = map.record_key
where inputs.run_id > %(input_mark)s
