-- One row per record of these customers; home_customer: its first one, where it is another.
select
    map.record_key,
    map.profile_key,
    map.source_number,
    map.global_customer_id as old_customer,
    map.home_customer_id as home_customer,
    map.match_confidence as old_confidence,
    map.assigned_by as old_assigned_by
from unnest(%(customers)s::uuid[]) as touched (global_customer_id)
inner join identity.memberships as map
    on touched.global_customer_id = map.global_customer_id
