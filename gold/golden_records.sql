-- One row per touched live customer: the golden record as it should be.

create unlogged table gold.working_golden as
with golden as (
    select
        attribute_values.global_customer_id,
        max(attribute_values.value) filter (
            where attribute_values.attribute = 'name'
        ) as canonical_name,
        max(attribute_values.value) filter (
            where attribute_values.attribute = 'email'
        ) as canonical_email,
        max(attribute_values.value) filter (
            where attribute_values.attribute = 'phone'
        ) as canonical_phone,
        max(attribute_values.value) filter (
            where attribute_values.attribute = 'birth_date'
        ) as canonical_birth_date,
        max(attribute_values.value) filter (
            where attribute_values.attribute = 'national_id'
        ) as canonical_national_id,
        max(attribute_values.value) filter (
            where attribute_values.attribute = 'address'
        ) as canonical_address,
        max(attribute_values.value) filter (
            where attribute_values.attribute = 'city'
        ) as canonical_city,
        max(attribute_values.value) filter (
            where attribute_values.attribute = 'postal_code'
        ) as canonical_postal_code
    from gold.customer_attribute_values as attribute_values
    inner join gold.working_customers
        on attribute_values.global_customer_id = working_customers.global_customer_id
    where attribute_values.is_golden
    group by attribute_values.global_customer_id
),

counted as (
    select
        global_customer_id,
        count(*)::integer as record_count,
        bit_count(bit_or(source_bits)::bit(64))::integer as source_count
    from gold.working_records
    group by global_customer_id
)

select
    counted.global_customer_id,
    counted.record_count,
    counted.source_count,
    golden.canonical_birth_date::date as canonical_birth_date,
    golden.canonical_name,
    golden.canonical_email,
    golden.canonical_phone,
    golden.canonical_address,
    golden.canonical_city,
    golden.canonical_postal_code,
    golden.canonical_national_id
from counted
left join golden
    on counted.global_customer_id = golden.global_customer_id;

analyze gold.working_golden;
