-- One row per touched customer and live source record of it; source 0 where it is not known.
select
    working_customers.customer,
    map.record_key,
    coalesce(map.source_number, 0::smallint) as source_number
from gold.working_customers
inner join identity.memberships as map
    on working_customers.global_customer_id = map.global_customer_id
where working_customers.customer between %(first)s and %(last)s
