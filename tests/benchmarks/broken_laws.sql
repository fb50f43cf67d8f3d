-- One row per law of gold: how many rows break it.
-- Law 3: an id that ever existed leads to a live customer, or to a closed one.
select
    'an id leads nowhere' as law,
    count(*) as rows_against
from identity.customers
left join identity.customers as heir
    on identity.current_customer_id(customers.global_customer_id) = heir.global_customer_id
where heir.status is null or heir.status = 'merged'
union all
-- Law 1: as many records mapped as there are, each in a customer of its size.
select
    'a record is in no customer',
    count(*)
from staging.identity_inputs as inputs
full outer join identity.customer_identity_map as map
    on inputs.record_key = map.record_key
where (map.record_key is null) <> coalesce(inputs.is_deleted, true)
union all
select
    'a customer counts other records than it has',
    count(*)
from (
    select
        map.global_customer_id,
        count(*) as record_count
    from identity.customer_identity_map as map
    group by map.global_customer_id
) as counted
full outer join gold.dim_customers as customers
    on counted.global_customer_id = customers.global_customer_id
where counted.record_count is distinct from customers.record_count
union all
-- Law 5, twice in both directions.
select
    'the events replayed are not dim_customers',
    count(*)
from (
    (
        select * from gold.dim_customers
        except
        select * from gold.replay_events()
    )
    union all
    (
        select * from gold.replay_events()
        except
        select * from gold.dim_customers
    )
) as differing
union all
select
    'the current versions are not dim_customers',
    count(*)
from (
    (
        select * from gold.dim_customers
        except
        select * from gold.customers_as_of(now())
    )
    union all
    (
        select * from gold.customers_as_of(now())
        except
        select * from gold.dim_customers
    )
) as differing
union all
select
    'two versions of a customer overlap',
    count(*)
from (
    select
        history.valid_from,
        lag(coalesce(history.valid_to, 'infinity')) over (
            partition by history.global_customer_id order by history.valid_from
        ) as earlier_valid_to
    from gold.dim_customers_history as history
) as versions
where versions.earlier_valid_to > versions.valid_from
union all
select
    'a number of an event is missing',
    coalesce(max(events.event_seq), 0) - count(*)
from gold.customer_change_events as events
