-- Overrides that are new come into force, those withdrawn or expired go out; what is left is one row per
-- customer they count for.

with brought_in as (
    update gold.customer_steward_overrides
    set applied_run_id = %(run_id)s
    where
        applied_run_id is null
        and withdrawn_at is null
        and (valid_until is null or valid_until > now())
    returning global_customer_id
),

taken_out as (
    update gold.customer_steward_overrides
    set retired_run_id = %(run_id)s
    where
        applied_run_id is not null
        and retired_run_id is null
        and (withdrawn_at is not null or valid_until <= now())
    returning global_customer_id
)

insert into gold.working_customers (global_customer_id, created_at)
select
    customers.global_customer_id,
    customers.created_at
from (
    select identity.current_customer_id(global_customer_id) as id from brought_in
    union
    select identity.current_customer_id(global_customer_id) as id from taken_out
) as concerned
inner join identity.customers
    on concerned.id = customers.global_customer_id
where customers.status = 'live';
