-- One row per customer in dim_customers: written only where something differs, deleted when the customer is gone.

merge into gold.dim_customers as customers
using (
    select
        working_customers.is_live,
        working_customers.global_customer_id as id,
        working_golden.*,
        registry.created_at
    from gold.working_customers
    left join gold.working_golden
        on working_customers.global_customer_id = working_golden.global_customer_id
    inner join identity.customers as registry
        on working_customers.global_customer_id = registry.global_customer_id
    order by working_customers.global_customer_id
) as golden
    on customers.global_customer_id = golden.id
when matched and not golden.is_live then delete
when
matched
and (
    customers.record_count,
    customers.source_count,
    customers.canonical_birth_date,
    customers.canonical_name,
    customers.canonical_email,
    customers.canonical_phone,
    customers.canonical_address,
    customers.canonical_city,
    customers.canonical_postal_code,
    customers.canonical_national_id
) is distinct from (
    golden.record_count,
    golden.source_count,
    golden.canonical_birth_date,
    golden.canonical_name,
    golden.canonical_email,
    golden.canonical_phone,
    golden.canonical_address,
    golden.canonical_city,
    golden.canonical_postal_code,
    golden.canonical_national_id
)
then
    update
        set
            run_id = %(run_id)s,
            updated_at = greatest(now(), customers.updated_at + interval '1 microsecond'),
            record_count = golden.record_count,
            source_count = golden.source_count,
            canonical_birth_date = golden.canonical_birth_date,
            canonical_name = golden.canonical_name,
            canonical_email = golden.canonical_email,
            canonical_phone = golden.canonical_phone,
            canonical_address = golden.canonical_address,
            canonical_city = golden.canonical_city,
            canonical_postal_code = golden.canonical_postal_code,
            canonical_national_id = golden.canonical_national_id
when not matched and golden.is_live then insert (
    global_customer_id,
    run_id,
    record_count,
    source_count,
    canonical_birth_date,
    created_at,
    updated_at,
    canonical_name,
    canonical_email,
    canonical_phone,
    canonical_address,
    canonical_city,
    canonical_postal_code,
    canonical_national_id
) values (
    golden.id,
    %(run_id)s,
    golden.record_count,
    golden.source_count,
    golden.canonical_birth_date,
    golden.created_at,
    now(),
    golden.canonical_name,
    golden.canonical_email,
    golden.canonical_phone,
    golden.canonical_address,
    golden.canonical_city,
    golden.canonical_postal_code,
    golden.canonical_national_id
);
