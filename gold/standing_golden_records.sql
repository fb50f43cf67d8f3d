-- One row per touched customer, with its golden record where it has one.
select
    working_customers.customer,
    working_customers.global_customer_id,
    (date_part('epoch', working_customers.created_at) * 1e6)::bigint as created_at,
    (date_part('epoch', customers.updated_at) * 1e6)::bigint as updated_at,
    customers.ctid as row_address,
    customers.record_count,
    customers.source_count,
    customers.canonical_name,
    customers.canonical_email,
    customers.canonical_phone,
    customers.canonical_birth_date,
    customers.canonical_national_id,
    customers.canonical_address,
    customers.canonical_city,
    customers.canonical_postal_code
from gold.working_customers
left join gold.dim_customers as customers
    on working_customers.global_customer_id = customers.global_customer_id
where
    working_customers.customer between %(first)s and %(last)s
