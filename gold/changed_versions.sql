-- One row per customer with a version opened or closed since the mark.

create unlogged table gold.working_customers as
-- A customer has one current version.
select opened.global_customer_id
from gold.dim_customers_history as opened
where opened.run_id > %(mark)s and opened.valid_to is null
union all
(
    select closed.global_customer_id
    from gold.dim_customers_history as closed
    where closed.closed_run_id > %(mark)s
    except
    select opened.global_customer_id
    from gold.dim_customers_history as opened
    where opened.run_id > %(mark)s and opened.valid_to is null
);
