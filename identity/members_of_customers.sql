-- One row per record of these customers.
select
    map.record_key,
    map.profile_key,
    map.source_number,
    map.global_customer_id as old_customer,
    coalesce(map.home_customer_id, map.global_customer_id) as home_customer,
    map.match_confidence as old_confidence,
    map.assigned_by as old_assigned_by,
    map.profile_key as old_profile_key
from unnest(%(customers)s::uuid []) as touched (global_customer_id)
inner join identity.memberships as map
    on touched.global_customer_id = map.global_customer_id
