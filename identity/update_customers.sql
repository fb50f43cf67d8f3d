-- One row per customer whose members changed, or an attribute of a member.
insert into identity.customers (
    global_customer_id,
    status,
    merged_into,
    record_count,
    created_run_id,
    run_id,
    source_mask,
    profile_count
)
select
    changed_customers.global_customer_id,
    changed_customers.status,
    changed_customers.merged_into,
    changed_customers.record_count,
    changed_customers.created_run_id,
    changed_customers.run_id,
    changed_customers.source_mask,
    changed_customers.profile_count
from changed_customers
order by changed_customers.global_customer_id
on conflict (global_customer_id) do update
    set
        status = excluded.status,
        merged_into = excluded.merged_into,
        record_count = excluded.record_count,
        run_id = excluded.run_id,
        source_mask = excluded.source_mask,
        profile_count = excluded.profile_count
