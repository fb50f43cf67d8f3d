-- One row per customer with a version opened or closed since the mark.

create unlogged table gold.working_customers as
-- Of those with a current version, that one is the last opened.
select history.global_customer_id
from gold.dim_customers_history as history
where history.run_id > %(mark)s and history.valid_to is null
union all
select distinct closed.global_customer_id
from gold.dim_customers_history as closed
where
    closed.closed_run_id > %(mark)s
    and not exists (
        select from gold.dim_customers_history as opened
        where
            opened.global_customer_id = closed.global_customer_id
            and opened.run_id > %(mark)s
            and opened.valid_to is null
    );
