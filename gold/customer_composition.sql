-- Count the changed customers anew: their old composition off, the new one on.
-- The memberships of the changed customers are put in as {members}.
create temp table changed_compositions on commit drop as
select
    members.global_customer_id,
    coalesce(bit_or(1::bigint << quality_sources.bit), 0) as source_mask,
    count(*)::integer as record_count,
    null::integer as profile_count
from {members} as members
left join raw.sources
    on members.source_number = sources.source_number
left join gold.quality_sources
    on sources.source_system = quality_sources.source_system
group by members.global_customer_id;

analyze changed_compositions;

update changed_compositions
set profile_count = counted.profile_count
from (
    select
        large.global_customer_id,
        count(distinct map.profile_key) as profile_count
    from changed_compositions as large
    inner join identity.memberships as map
        on large.global_customer_id = map.global_customer_id
    where large.record_count >= %(large)s
    group by large.global_customer_id
) as counted
where changed_compositions.global_customer_id = counted.global_customer_id;

with former_compositions as (
    delete from gold.customer_composition as known
    using identity.customers
    where
        known.global_customer_id = customers.global_customer_id
        and customers.run_id > %(mark)s
    returning known.source_mask, known.record_count
),

adjustments as (
    select
        changed_compositions.source_mask,
        changed_compositions.record_count,
        count(*) as customer_count
    from changed_compositions
    group by
        changed_compositions.source_mask, changed_compositions.record_count
    union all
    select
        former_compositions.source_mask,
        former_compositions.record_count,
        -count(*) as customer_count
    from former_compositions
    group by former_compositions.source_mask, former_compositions.record_count
)

insert into gold.customer_composition_totals as total (
    source_mask, record_count, customer_count
)
select
    adjustments.source_mask,
    adjustments.record_count,
    sum(adjustments.customer_count) as customer_count
from adjustments
group by adjustments.source_mask, adjustments.record_count
having sum(adjustments.customer_count) <> 0
on conflict (source_mask, record_count) do update
    set customer_count = total.customer_count + excluded.customer_count;

insert into gold.customer_composition (
    global_customer_id, source_mask, record_count, profile_count
)
select
    changed_compositions.global_customer_id,
    changed_compositions.source_mask,
    changed_compositions.record_count,
    changed_compositions.profile_count
from changed_compositions
order by changed_compositions.global_customer_id;
