-- One row per customer, attribute and distinct value: the touched customers' rows, made anew.

with source_sets as materialized (
    select
        seen.source_bits,
        array(
            select working_sources.source_system
            from gold.working_sources
            where bit_count(working_sources.source_bits & seen.source_bits) > 0
            order by working_sources.source_system
        ) as sources
    from (select distinct source_bits from gold.working_values) as seen
),

-- A part that several addresses share goes with the best of them.
address_parts as (
    select
        addresses.global_customer_id,
        min(addresses.first_seen) as first_seen,
        max(addresses.last_seen) as last_seen,
        sum(addresses.record_count) as record_count,
        part.attribute,
        (array_agg(addresses.rule order by addresses.place))[1] as rule,
        min(addresses.place) as place,
        max(addresses.sighting) as sighting,
        bit_or(addresses.source_bits) as source_bits,
        part.value
    from gold.working_values as addresses
    cross join lateral (
        values
        ('address'::gold.canonical_attribute, split_part(addresses.value, chr(31), 1)),
        ('city', split_part(addresses.value, chr(31), 2)),
        ('postal_code', split_part(addresses.value, chr(31), 3))
    ) as part (attribute, value)
    where addresses.attribute = 'address' and part.value <> ''
    group by addresses.global_customer_id, part.attribute, part.value
),

all_values as (
    select
        global_customer_id,
        first_seen,
        last_seen,
        record_count,
        attribute,
        rule,
        place,
        sighting,
        source_bits,
        value
    from gold.working_values
    where attribute <> 'address'
    union all
    select * from address_parts
)

insert into gold.customer_attribute_values (
    global_customer_id,
    record_key,
    first_seen,
    last_seen,
    record_count,
    run_id,
    attribute,
    rule,
    is_golden,
    sources,
    value
)
select
    all_values.global_customer_id,
    substring(all_values.sighting from 9)::bigint,
    all_values.first_seen,
    all_values.last_seen,
    all_values.record_count,
    %(run_id)s,
    all_values.attribute,
    all_values.rule,
    all_values.place = 1,
    source_sets.sources,
    all_values.value
from all_values
inner join source_sets
    on all_values.source_bits = source_sets.source_bits;
