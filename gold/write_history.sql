-- One row per customer and version: versions that no longer hold are closed, new ones opened.

-- The last version of each customer whose golden record was written, or who has left dim_customers, since the
-- marks; looked up one by one, so the cost follows the customers and not their history.
create temp table last_versions on commit drop as
select
    written.global_customer_id,
    written.updated_at,
    history.row_address,
    history.version,
    history.valid_from,
    history.valid_to
from (
    select
        customers.global_customer_id,
        customers.updated_at
    from gold.dim_customers as customers
    where customers.run_id > %(golden_mark)s
    union all
    select
        customers.global_customer_id,
        null as updated_at
    from identity.customers
    where
        customers.run_id > %(identity_mark)s
        and customers.status <> 'live'
        and not exists (
            select from gold.dim_customers as golden
            where golden.global_customer_id = customers.global_customer_id
        )
) as written
cross join
    lateral (
        select
            versions.ctid as row_address,
            versions.version,
            versions.valid_from,
            versions.valid_to
        from gold.dim_customers_history as versions
        where versions.global_customer_id = written.global_customer_id
        order by versions.version desc
        limit 1
    ) as history
-- Asked once: the first time there is nothing to look up.
where exists (select from gold.dim_customers_history);

analyze last_versions;

update gold.dim_customers_history as history
set
    -- A customer who is gone left dim_customers at the time of phase 7.
    valid_to = coalesce(
        last_versions.updated_at,
        greatest(
            (
                select marks.updated_at
                from identity.ingestion_watermarks as marks
                where
                    marks.phase = 'run_golden_customers'
                    and marks.upstream = 'identity.customers'
            ),
            last_versions.valid_from + interval '1 microsecond'
        )
    ),
    closed_run_id = %(run_id)s,
    merged_into = case
        when last_versions.updated_at is null
            then (
                select registry.merged_into
                from identity.customers as registry
                where registry.global_customer_id = last_versions.global_customer_id
            )
    end
from last_versions
where
    history.ctid = last_versions.row_address
    and last_versions.valid_to is null
    and last_versions.valid_from is distinct from last_versions.updated_at;

insert into gold.dim_customers_history (
    global_customer_id,
    version,
    run_id,
    record_count,
    source_count,
    canonical_birth_date,
    valid_from,
    previous_valid_to,
    canonical_name,
    canonical_email,
    canonical_phone,
    canonical_address,
    canonical_city,
    canonical_postal_code,
    canonical_national_id
)
select
    customers.global_customer_id,
    coalesce(last_versions.version, 0) + 1,
    customers.run_id,
    customers.record_count,
    customers.source_count,
    customers.canonical_birth_date,
    customers.updated_at,
    -- The version closed just now ended where this one begins.
    case
        when last_versions.version is not null then coalesce(last_versions.valid_to, customers.updated_at)
    end,
    customers.canonical_name,
    customers.canonical_email,
    customers.canonical_phone,
    customers.canonical_address,
    customers.canonical_city,
    customers.canonical_postal_code,
    customers.canonical_national_id
from gold.dim_customers as customers
left join last_versions
    on customers.global_customer_id = last_versions.global_customer_id
where
    customers.run_id > %(golden_mark)s
    and (
        last_versions.version is null
        or last_versions.valid_to is not null
        or last_versions.valid_from <> customers.updated_at
    );
