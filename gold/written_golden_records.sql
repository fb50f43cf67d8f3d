-- One row per customer whose golden record was written, or who has left dim_customers, since the mark.

create unlogged table gold.working_customers as
select
    global_customer_id,
    true as is_live
from gold.dim_customers
where run_id > %(golden_mark)s
union all
select
    global_customer_id,
    false
from identity.customers
where run_id > %(identity_mark)s and status <> 'live';
