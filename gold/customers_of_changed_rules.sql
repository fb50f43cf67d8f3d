-- The customers a changed chain can affect: those with more than one value of its attribute.

insert into gold.working_customers (customer, global_customer_id, created_at)
select
    (select count(*) from gold.working_customers)
    + row_number() over (order by customers.global_customer_id),
    customers.global_customer_id,
    customers.created_at
from identity.memberships as map
inner join staging.identity_inputs as inputs
    on map.record_key = inputs.record_key
inner join identity.customers as customers
    on map.global_customer_id = customers.global_customer_id
where
    not exists (
        select from gold.working_customers
        where working_customers.global_customer_id = map.global_customer_id
    )
group by customers.global_customer_id
having
    ('name' = any(%(attributes)s) and min(inputs.name) <> max(inputs.name))
    or ('email' = any(%(attributes)s) and min(inputs.email) <> max(inputs.email))
    or ('phone' = any(%(attributes)s) and min(inputs.phone) <> max(inputs.phone))
    or (
        'birth_date' = any(%(attributes)s)
        and min(inputs.birth_date) <> max(inputs.birth_date)
    )
    or (
        'national_id' = any(%(attributes)s)
        and min(inputs.national_id) <> max(inputs.national_id)
    )
    or (
        'address' = any(%(attributes)s)
        and min((inputs.address, inputs.city, inputs.postal_code))
        filter (
            where num_nonnulls(inputs.address, inputs.city, inputs.postal_code) > 0
        )
        is distinct from max((inputs.address, inputs.city, inputs.postal_code))
        filter (
            where num_nonnulls(inputs.address, inputs.city, inputs.postal_code) > 0
        )
    );
