-- One row per live record of what is touched: those that changed, and those that stand as they were resolved.
select
    changed_inputs.record_key,
    changed_inputs.profile_key,
    changed_inputs.source_number,
    true as is_changed,
    map.global_customer_id as old_customer,
    coalesce(map.home_customer_id, map.global_customer_id) as home_customer,
    map.match_confidence as old_confidence,
    map.assigned_by as old_assigned_by,
    map.profile_key as old_profile_key
from changed_inputs
left join identity.memberships as map
    on changed_inputs.record_key = map.record_key
where not changed_inputs.is_deleted
union all
select
    map.record_key,
    map.profile_key,
    map.source_number,
    false as is_changed,
    map.global_customer_id as old_customer,
    coalesce(map.home_customer_id, map.global_customer_id) as home_customer,
    map.match_confidence as old_confidence,
    map.assigned_by as old_assigned_by,
    map.profile_key as old_profile_key
from touched_members as map
where not exists (
    select 1
    from changed_inputs
    where changed_inputs.record_key = map.record_key
)
