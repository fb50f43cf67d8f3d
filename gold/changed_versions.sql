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
select
    closed.global_customer_id,
    null as version,
    null as valid_from
from (
    select history.global_customer_id
    from gold.dim_customers_history as history
    where history.closed_run_id > %(mark)s
    except
    select history.global_customer_id
    from gold.dim_customers_history as history
    where history.run_id > %(mark)s and history.valid_to is null
) as closed
-- A version that came late carries the run of its golden record, which may be before the mark.
where
    not exists (
        select 1
        from gold.dim_customers_history as current
        where
            current.global_customer_id = closed.global_customer_id
            and current.valid_to is null
    )
