-- One row per customer, attribute and distinct value that stands for a touched customer.
select
    working_customers.customer,
    attribute_values.ctid as row_address,
    attribute_values.record_key,
    (date_part('epoch', attribute_values.first_seen) * 1e6)::bigint as first_seen,
    (date_part('epoch', attribute_values.last_seen) * 1e6)::bigint as last_seen,
    attribute_values.record_count,
    attribute_values.kind,
    attribute_values.value
from gold.working_customers
inner join gold.attribute_values
    on working_customers.global_customer_id = attribute_values.global_customer_id
where
    working_customers.customer between %(first)s and %(last)s
