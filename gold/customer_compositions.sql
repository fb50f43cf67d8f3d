-- One row: how many live customers changed since the mark. They are added to the totals; what they were is off it.
with changed as (
    select
        customers.source_mask,
        customers.record_count,
        count(*) as customer_count
    from identity.customers
    where
        customers.run_id > %(mark)s
        and customers.record_count > 0
    group by customers.source_mask, customers.record_count
),

counted as (
    insert into gold.customer_composition_totals as total (
        source_mask, record_count, customer_count
    )
    select
        changed.source_mask,
        changed.record_count,
        changed.customer_count
    from changed
    on conflict (source_mask, record_count) do update
        set customer_count = total.customer_count + excluded.customer_count
)

select coalesce(sum(changed.customer_count), 0)::bigint as customer_count
from changed
