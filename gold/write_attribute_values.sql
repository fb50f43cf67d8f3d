-- One row per customer, attribute and distinct value: of the touched customers, written where something differs.

create unlogged table gold.working_new_values as
with source_sets as materialized (
    select
        seen.source_bits,
        array(
            select working_sources.source_system
            from gold.working_sources
            where working_sources.source_bits & seen.source_bits <> 0
            order by working_sources.source_system
        ) as sources
    from (select distinct source_bits from gold.working_values) as seen
),

uncontested as (
    select counted.*
    from gold.working_values as counted
    where not exists (
        select from gold.working_contested
        where
            counted.global_customer_id = working_contested.global_customer_id
            and counted.attribute = working_contested.attribute
    )
),

all_values as (
    select
        global_customer_id,
        first_seen,
        last_seen,
        record_count,
        attribute,
        'only_value'::gold.golden_rule as rule,
        1 as place,
        sighting,
        source_bits,
        value
    from uncontested
    where attribute <> 'address'
    union all
    select
        uncontested.global_customer_id,
        uncontested.first_seen,
        uncontested.last_seen,
        uncontested.record_count,
        part.attribute,
        'only_value',
        1,
        uncontested.sighting,
        uncontested.source_bits,
        part.value
    from uncontested
    cross join
        lateral (
            values
            ('address'::gold.canonical_attribute, split_part(uncontested.value, chr(31), 1)),
            ('city', split_part(uncontested.value, chr(31), 2)),
            ('postal_code', split_part(uncontested.value, chr(31), 3))
        ) as part (attribute, value)
    where uncontested.attribute = 'address' and part.value <> ''
    union all
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
    from gold.working_ranked
    where attribute <> 'address'
    union all
    -- A part that several addresses share goes with the best of them.
    select
        addresses.global_customer_id,
        min(addresses.first_seen),
        max(addresses.last_seen),
        sum(addresses.record_count),
        part.attribute,
        (array_agg(addresses.rule order by addresses.place))[1],
        min(addresses.place),
        max(addresses.sighting),
        bit_or(addresses.source_bits),
        part.value
    from gold.working_ranked as addresses
    cross join
        lateral (
            values
            ('address'::gold.canonical_attribute, split_part(addresses.value, chr(31), 1)),
            ('city', split_part(addresses.value, chr(31), 2)),
            ('postal_code', split_part(addresses.value, chr(31), 3))
        ) as part (attribute, value)
    where addresses.attribute = 'address' and part.value <> ''
    group by addresses.global_customer_id, part.attribute, part.value
)

select
    all_values.global_customer_id,
    substring(all_values.sighting from 9)::bigint as record_key,
    all_values.first_seen,
    all_values.last_seen,
    all_values.record_count::integer as record_count,
    all_values.attribute,
    all_values.rule,
    all_values.place = 1 as is_golden,
    -- A part of several addresses may be said by a set of sources that says no whole value.
    coalesce(source_sets.sources, array(
        select working_sources.source_system
        from gold.working_sources
        where working_sources.source_bits & all_values.source_bits <> 0
        order by working_sources.source_system
    )) as sources,
    all_values.value
from all_values
left join source_sets
    on all_values.source_bits = source_sets.source_bits;

analyze gold.working_new_values;

create unlogged table gold.working_standing as
select
    attribute_values.ctid as row_address,
    attribute_values.*
from gold.working_customers
inner join gold.customer_attribute_values as attribute_values
    on working_customers.global_customer_id = attribute_values.global_customer_id;

analyze gold.working_standing;

delete from gold.customer_attribute_values as attribute_values
using gold.working_standing as standing
where
    attribute_values.ctid = standing.row_address
    and not exists (
        select from gold.working_new_values as made
        where
            standing.global_customer_id = made.global_customer_id
            and standing.attribute = made.attribute
            and standing.value = made.value
            and standing.record_key = made.record_key
            and standing.first_seen = made.first_seen
            and standing.last_seen = made.last_seen
            and standing.record_count = made.record_count
            and standing.rule = made.rule
            and standing.is_golden = made.is_golden
            and standing.sources = made.sources
    );

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
    made.global_customer_id,
    made.record_key,
    made.first_seen,
    made.last_seen,
    made.record_count,
    %(run_id)s,
    made.attribute,
    made.rule,
    made.is_golden,
    made.sources,
    made.value
from gold.working_new_values as made
where not exists (
    select from gold.working_standing as standing
    where
        standing.global_customer_id = made.global_customer_id
        and standing.attribute = made.attribute
        and standing.value = made.value
        and standing.record_key = made.record_key
        and standing.first_seen = made.first_seen
        and standing.last_seen = made.last_seen
        and standing.record_count = made.record_count
        and standing.rule = made.rule
        and standing.is_golden = made.is_golden
        and standing.sources = made.sources
);
