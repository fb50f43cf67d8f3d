-- The standing override of a touched customer's attribute is golden; what the sources say is not.

create temp table working_overrides on commit drop as
select
    overrides.global_customer_id,
    overrides.attribute,
    overrides.value,
    overrides.made_at
from gold.standing_overrides as overrides
inner join gold.working_customers
    on overrides.global_customer_id = working_customers.global_customer_id
where overrides.is_winner;

update gold.customer_attribute_values as attribute_values
set
    is_golden = attribute_values.value = working_overrides.value,
    rule = 'steward_override'
from working_overrides
where
    attribute_values.global_customer_id = working_overrides.global_customer_id
    and attribute_values.attribute = working_overrides.attribute;

insert into gold.customer_attribute_values (
    global_customer_id,
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
    working_overrides.global_customer_id,
    working_overrides.made_at as first_seen,
    working_overrides.made_at as last_seen,
    0,
    %(run_id)s,
    working_overrides.attribute,
    'steward_override',
    true,
    '{}',
    working_overrides.value
from working_overrides
where not exists (
    select from gold.customer_attribute_values as attribute_values
    where
        attribute_values.global_customer_id = working_overrides.global_customer_id
        and attribute_values.attribute = working_overrides.attribute
        and attribute_values.value = working_overrides.value
);

drop table working_overrides;
