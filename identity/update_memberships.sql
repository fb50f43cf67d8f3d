-- One row per record whose customer, or how surely it is there, has changed.
insert into identity.memberships (
    record_key,
    profile_key,
    run_id,
    match_confidence,
    global_customer_id,
    home_customer_id,
    assigned_by,
    source_number
)
select
    changed_memberships.record_key,
    changed_memberships.profile_key,
    changed_memberships.run_id,
    changed_memberships.match_confidence,
    changed_memberships.global_customer_id,
    changed_memberships.home_customer_id,
    changed_memberships.assigned_by,
    changed_memberships.source_number
from changed_memberships
order by changed_memberships.record_key
on conflict (record_key) do update
    set
        profile_key = excluded.profile_key,
        run_id = excluded.run_id,
        match_confidence = excluded.match_confidence,
        global_customer_id = excluded.global_customer_id,
        home_customer_id = excluded.home_customer_id,
        assigned_by = excluded.assigned_by
