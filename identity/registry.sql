-- One row per given id that was ever given to a customer.
select
    customers.global_customer_id as customer,
    customers.status,
    customers.record_count,
    customers.created_run_id
from unnest(%(ids)s::uuid[]) as wanted (global_customer_id)
inner join identity.customers
    on wanted.global_customer_id = customers.global_customer_id
