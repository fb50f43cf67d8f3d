-- One row per customer whose members changed since the mark, numbered in the order of the ids.

create unlogged table gold.working_customers as
select
    row_number() over (order by global_customer_id) as customer,
    global_customer_id,
    created_at
from identity.customers
where run_id > %(mark)s;
