-- One row per given id that was ever given to a customer; status erased: by gold.erase_customer.
select
    customers.global_customer_id as customer,
    case
        when exists (
            select 1
            from gold.erasures
            where erasures.global_customer_id = customers.global_customer_id
        ) then 'erased'
        else customers.status::text
    end as status,
    customers.record_count,
    customers.created_run_id
from unnest(%(ids)s::uuid[]) as wanted (global_customer_id)
inner join identity.customers
    on wanted.global_customer_id = customers.global_customer_id
