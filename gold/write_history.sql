-- One row per customer and version: versions that no longer hold are closed, new ones opened.

create unlogged table gold.working_versions as
select
    working_customers.global_customer_id,
    coalesce(max(history.version), 0) as last_version,
    -- As versions are a chain, the latest end is the end of the last version.
    max(history.valid_to) as last_valid_to,
    max(history.valid_from) filter (where history.is_current) as current_valid_from
from gold.working_customers
left join gold.dim_customers_history as history
    on working_customers.global_customer_id = history.global_customer_id
group by working_customers.global_customer_id;

analyze gold.working_versions;

update gold.dim_customers_history as history
set
    -- A customer who is gone left dim_customers at the time of phase 7.
    valid_to = coalesce(
        customers.updated_at,
        greatest(
            (
                select marks.updated_at
                from identity.ingestion_watermarks as marks
                where
                    marks.phase = 'run_golden_customers'
                    and marks.upstream = 'identity.customers'
            ),
            versions.current_valid_from + interval '1 microsecond'
        )
    ),
    closed_run_id = %(run_id)s,
    merged_into = case when customers.global_customer_id is null then registry.merged_into end
from gold.working_versions as versions
inner join identity.customers as registry
    on versions.global_customer_id = registry.global_customer_id
left join gold.dim_customers as customers
    on versions.global_customer_id = customers.global_customer_id
where
    history.global_customer_id = versions.global_customer_id
    and history.version = versions.last_version
    and versions.current_valid_from is distinct from customers.updated_at
    and versions.current_valid_from is not null;

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
    versions.last_version + 1,
    customers.run_id,
    customers.record_count,
    customers.source_count,
    customers.canonical_birth_date,
    customers.updated_at,
    -- The version closed just now ended where this one begins.
    case
        when versions.current_valid_from is not null then customers.updated_at
        else versions.last_valid_to
    end,
    customers.canonical_name,
    customers.canonical_email,
    customers.canonical_phone,
    customers.canonical_address,
    customers.canonical_city,
    customers.canonical_postal_code,
    customers.canonical_national_id
from gold.working_versions as versions
inner join gold.dim_customers as customers
    on versions.global_customer_id = customers.global_customer_id
where versions.current_valid_from is distinct from customers.updated_at
order by customers.global_customer_id;
