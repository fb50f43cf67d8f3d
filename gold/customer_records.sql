-- One row per live source record of a touched customer, with its canonical attributes.

create unlogged table gold.working_sources as
select
    sources.source_system,
    1::bigint << (row_number() over (order by sources.source_system))::integer - 1 as source_bits
from raw.sources;

analyze gold.working_sources;

create unlogged table gold.working_records with (parallel_workers = 0) as
select
    map.global_customer_id,
    map.record_key,
    inputs.event_ts,
    -- Sorts like (event_ts, record_key), so max() finds the latest record. A time
    -- before 2000 is negative in this form and would sort last.
    case
        when inputs.event_ts >= '2000-01-01 00:00+00'
            then timestamptz_send(inputs.event_ts)
        else '\x0000000000000000'
    end || int8send(map.record_key) as sighting,
    working_sources.source_bits,
    num_nonnulls(
        inputs.name,
        inputs.email,
        inputs.phone,
        inputs.birth_date,
        inputs.national_id,
        inputs.address,
        inputs.city,
        inputs.postal_code
    ) as filled,
    num_nonnulls(inputs.address, inputs.city, inputs.postal_code) as address_filled,
    inputs.name,
    inputs.email,
    inputs.phone,
    to_char(inputs.birth_date, 'YYYY-MM-DD') as birth_date,
    inputs.national_id,
    -- The parts of an address survive together: one value, taken apart again at the end.
    case
        when num_nonnulls(inputs.address, inputs.city, inputs.postal_code) > 0 then concat(
            translate(inputs.address, chr(31), ' '), chr(31),
            translate(inputs.city, chr(31), ' '), chr(31),
            translate(inputs.postal_code, chr(31), ' ')
        )
    end as address
from gold.working_customers
inner join identity.customer_identity_map as map
    on working_customers.global_customer_id = map.global_customer_id
inner join staging.identity_inputs as inputs
    on map.record_key = inputs.record_key
left join gold.working_sources
    on inputs.source_system = working_sources.source_system;

analyze gold.working_records;
