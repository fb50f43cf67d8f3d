-- One row per touched customer and live source record of it.
select
    working_customers.customer,
    map.record_key
from gold.working_customers
inner join identity.memberships as map
    on working_customers.global_customer_id = map.global_customer_id
where working_customers.customer between %(first)s and %(last)s
