-- One row per customer with a version opened or closed since the mark, with its current version where it has one.
create temp table changed_versions on commit drop as
-- A customer has one current version.
select
    opened.global_customer_id,
    opened.version,
    opened.valid_from
from gold.dim_customers_history as opened
where opened.run_id > %(mark)s and opened.valid_to is null
union all
select distinct
    closed.global_customer_id,
    null::integer as version,
    null::timestamptz as valid_from
from gold.dim_customers_history as closed
where
    closed.closed_run_id > %(mark)s
    -- Whatever run the current version carries: one that came late has that of its golden record.
    and not exists (
        select 1
        from gold.dim_customers_history as current
        where
            current.global_customer_id = closed.global_customer_id
            and current.valid_to is null
    )
