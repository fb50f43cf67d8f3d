-- One row per customer with a version opened or closed since the mark.

create unlogged table gold.working_customers as
select global_customer_id
from gold.dim_customers_history
where run_id > %(mark)s
union
select global_customer_id
from gold.dim_customers_history
where closed_run_id > %(mark)s;
