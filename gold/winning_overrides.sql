-- One row per touched customer and attribute that a steward's standing override decides.
select
    working_customers.customer,
    overrides.attribute,
    overrides.value,
    (date_part('epoch', overrides.made_at) * 1e6)::bigint as made_at
from gold.standing_overrides as overrides
inner join gold.working_customers
    on overrides.global_customer_id = working_customers.global_customer_id
where
    overrides.is_winner
    and working_customers.customer between %(first)s and %(last)s
