-- One row per customer whose members changed since the mark, or whom a changed survivorship rule can affect.

create unlogged table gold.working_customers as
select
    customers.global_customer_id,
    customers.status = 'live' as is_live
from identity.customers
where customers.run_id > %(mark)s;
