-- One row per call of a steward's day: fifty of all kinds, taken from a filled database in a fixed order.
with queue as materialized (
    select
        queue.kind,
        queue.settle_call,
        queue.other_call,
        row_number() over (partition by queue.kind order by md5(queue.item)) as place
    from gold.steward_review_queue as queue
),

-- Customers that the queue says nothing about.
quiet_customers as materialized (
    select
        customers.global_customer_id,
        customers.record_count,
        row_number() over (
            partition by customers.record_count >= 4 order by customers.global_customer_id
        ) as place
    from gold.dim_customers as customers
    where
        customers.record_count between 1 and 9
        and not exists (
            select 1 from gold.steward_review_queue as queue
            where customers.global_customer_id in (queue.global_customer_id, queue.other_customer_id)
        )
),

calls (kind, call) as (
    select
        'confirm',
        queue.settle_call
    from queue
    where queue.kind = 'flagged_pair' and queue.place <= 10
    union all
    select
        'reject',
        queue.other_call
    from queue
    where queue.kind = 'flagged_pair' and queue.place between 11 and 18
    union all
    select
        'reject',
        queue.other_call
    from queue
    where queue.kind = 'refused_link' and queue.place <= 4
    union all
    select
        'override',
        queue.settle_call
    from queue
    where queue.kind = 'conflict' and queue.place <= 6
    union all
    select
        'override',
        format(
            'select gold.steward_override(%L, %L, %L, %L, %L);',
            quiet.global_customer_id, 'email', 'customer' || quiet.place || '@example.org', '<you>', '<why>'
        )
    from quiet_customers as quiet
    where quiet.record_count < 4 and quiet.place <= 6
    union all
    select
        'merge',
        format(
            'select gold.steward_merge(%L, %L, %L, %L);',
            one.global_customer_id, other.global_customer_id, '<you>', '<why>'
        )
    from quiet_customers as one
    inner join quiet_customers as other
        on one.place + 100 = other.place
    where one.record_count < 4 and other.record_count < 4 and one.place between 7 and 12
    union all
    select
        'split',
        format(
            'select gold.steward_split(%L, %L, %L, %L);',
            quiet.global_customer_id,
            (
                select array[min(map.source_system || ':' || map.record_id)]
                from identity.customer_identity_map as map
                where map.global_customer_id = quiet.global_customer_id
            ),
            '<you>', '<why>'
        )
    from quiet_customers as quiet
    where quiet.record_count >= 4 and quiet.place <= 6
    union all
    (
        -- Those of the evening before.
        select
            'withdraw',
            format('select gold.steward_withdraw(%s, %L, %L);', decisions.decision_id, '<you>', '<why>')
        from identity.steward_match_decisions as decisions
        where decisions.withdrawn_at is null
        order by decisions.decision_id
        limit 4
    )
)

select
    calls.kind,
    replace(replace(calls.call, '<you>', 'eva'), '<why>', 'a day of the benchmark') as call
from calls
order by calls.kind, calls.call
