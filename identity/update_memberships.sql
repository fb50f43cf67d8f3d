-- One row per record whose customer, or how surely it is there, has changed.
update identity.memberships
set
    profile_key = changed_memberships.profile_key,
    run_id = changed_memberships.run_id,
    match_confidence = changed_memberships.match_confidence,
    global_customer_id = changed_memberships.global_customer_id,
    home_customer_id = changed_memberships.home_customer_id,
    assigned_by = changed_memberships.assigned_by
from changed_memberships
where memberships.record_key = changed_memberships.record_key
