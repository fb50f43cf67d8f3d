-- One row per record whose customer, or how surely it is there, has changed.
insert into identity.customer_identity_map (
    record_key,
    run_id,
    match_confidence,
    global_customer_id,
    home_customer_id,
    assigned_by,
    source_system,
    record_id,
    profile_key
)
select
    changed_memberships.record_key,
    changed_memberships.run_id,
    changed_memberships.match_confidence,
    changed_memberships.global_customer_id,
    changed_memberships.home_customer_id,
    changed_memberships.assigned_by,
    changed_memberships.source_system,
    changed_memberships.record_id,
    changed_memberships.profile_key
from changed_memberships
order by changed_memberships.record_key
on conflict (record_key) do update
    set
        run_id = excluded.run_id,
        match_confidence = excluded.match_confidence,
        global_customer_id = excluded.global_customer_id,
        home_customer_id = excluded.home_customer_id,
        assigned_by = excluded.assigned_by,
        profile_key = excluded.profile_key
