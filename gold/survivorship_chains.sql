-- One row per attribute that survives by itself and step of its chain, in order; one without strategy where
-- an attribute has no step. City and postal code survive with the address.
select
    attributes.attribute::text as attribute,
    rules.strategy::text as strategy,
    rules.source_order
from unnest(enum_range(null::gold.canonical_attribute)) as attributes (attribute)
left join gold.survivorship_rules as rules
    on attributes.attribute = rules.attribute
where attributes.attribute not in ('city', 'postal_code')
order by attributes.attribute, rules.step
