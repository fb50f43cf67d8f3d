-- One row per touched customer and distinct value of one attribute: how often, first and last seen, by whom.
select
    global_customer_id,
    min(event_ts) as first_seen,
    max(event_ts) as last_seen,
    count(*)::integer as record_count,
    max(%(filled)s) as filled,
    %(attribute)s::gold.canonical_attribute as attribute,
    max(sighting) as sighting,
    bit_or(source_bits) as source_bits,
    %(value)s as value
from gold.working_records
where %(value)s is not null
group by global_customer_id, %(value)s
