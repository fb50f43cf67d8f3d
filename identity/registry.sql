-- One row per id in wanted_ids that was ever given.
select
    replace(customers.global_customer_id::text, '-', '') as customer,
    customers.status,
    customers.record_count,
    customers.created_run_id
from wanted_ids
inner join identity.customers
    on wanted_ids.global_customer_id = customers.global_customer_id
