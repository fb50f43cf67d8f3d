-- One row per record of these memberships: the customer it is in, and its first one.
select
    map.record_key,
    replace(map.global_customer_id::text, '-', '') as old_customer,
    replace(map.home_customer_id::text, '-', '') as home_customer,
    map.match_confidence as old_confidence,
    map.assigned_by as old_assigned_by
from {memberships} as map
