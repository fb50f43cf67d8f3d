-- One row per live record of these inputs: the customer it is in, and its first one.
select
    inputs.record_key,
    inputs.profile_key,
    inputs.run_id > %(input_mark)s as is_changed,
    inputs.source_system,
    inputs.record_id,
    replace(map.global_customer_id::text, '-', '') as old_customer,
    replace(map.home_customer_id::text, '-', '') as home_customer,
    map.match_confidence as old_confidence,
    map.assigned_by as old_assigned_by
from {inputs} as inputs
left join identity.customer_identity_map as map
    on inputs.record_key = map.record_key
where not inputs.is_deleted
