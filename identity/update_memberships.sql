-- One row per record whose customer, or how surely it is there, has changed.
insert into identity.customer_identity_map (
    record_key,
    run_id,
    match_confidence,
    global_customer_id,
    home_customer_id,
    assigned_by,
    source_system,
    record_id
)
select
    memberships.record_key,
    memberships.run_id,
    memberships.match_confidence,
    memberships.global_customer_id,
    memberships.home_customer_id,
    memberships.assigned_by,
    memberships.source_system,
    memberships.record_id
from memberships
order by memberships.record_key
on conflict (record_key) do update
    set
        run_id = excluded.run_id,
        match_confidence = excluded.match_confidence,
        global_customer_id = excluded.global_customer_id,
        assigned_by = excluded.assigned_by
