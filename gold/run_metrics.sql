-- One row per metric and subject of this run, from the totals and from what the run brought.
insert into gold.run_metrics (run_id, metric, subject, value, basis)
with customers as (
    select
        totals.source_mask,
        totals.record_count,
        totals.customer_count
    from gold.customer_composition_totals as totals
    where totals.customer_count > 0
),

by_source as (
    select
        sources.source_system,
        sources.source_bit,
        sum(customers.customer_count) as customer_count
    from customers
    inner join raw.sources
        on customers.source_mask & sources.source_bit > 0
    group by sources.source_system, sources.source_bit
),

source_records as (
    select
        totals.source_system,
        sum(totals.record_count) as record_count
    from gold.record_quality_totals as totals
    group by totals.source_system
    having sum(totals.record_count) > 0
),

sizes as (
    select
        size_classes.label,
        size_classes.size_from,
        size_classes.size_to
    from (
        values
        ('1', 1, 1),
        ('2', 2, 2),
        ('3', 3, 3),
        ('4-5', 4, 5),
        ('6-9', 6, 9),
        ('10-19', 10, 19),
        ('20-49', 20, 49),
        ('50-99', 50, 99),
        ('100 or more', 100, 2147483647)
    ) as size_classes (label, size_from, size_to)
),

pairs as (
    select
        metrics.match_decision,
        sum(metrics.pair_count) as pair_count,
        sum(sum(metrics.pair_count)) over () as all_pairs
    from gold.match_confidence_metrics as metrics
    where metrics.run_id = %(run_id)s or metrics.run_id > %(pairs_mark)s
    group by metrics.match_decision
),

objects as (
    select
        ingested_objects.source_system,
        sum(ingested_objects.row_count) as row_count,
        sum(ingested_objects.rejected_count) as rejected_count
    from raw.ingested_objects
    where ingested_objects.run_id > %(objects_mark)s
    group by ingested_objects.source_system
)

select
    %(run_id)s as run_id,
    'records' as metric,
    source_records.source_system as subject,
    source_records.record_count::double precision as value,
    null::bigint as basis
from source_records
union all
select
    %(run_id)s,
    'customers',
    'all',
    sum(customers.customer_count),
    null
from customers
having count(*) > 0
union all
select
    %(run_id)s,
    'duplicate_rate',
    by_source.source_system,
    greatest(1 - by_source.customer_count / source_records.record_count, 0),
    source_records.record_count
from by_source
inner join source_records
    on by_source.source_system = source_records.source_system
union all
select
    %(run_id)s,
    'match_rate',
    left_source.source_system || ' in ' || right_source.source_system,
    coalesce(sum(customers.customer_count) filter (
        where customers.source_mask & right_source.source_bit > 0
    ), 0) / left_source.customer_count,
    left_source.customer_count
from by_source as left_source
inner join by_source as right_source
    on left_source.source_system <> right_source.source_system
inner join customers
    on customers.source_mask & left_source.source_bit > 0
group by
    left_source.source_system,
    right_source.source_system,
    left_source.customer_count
union all
select
    %(run_id)s,
    'customers_of_size',
    sizes.label,
    sum(customers.customer_count),
    null
from sizes
inner join customers
    on customers.record_count between sizes.size_from and sizes.size_to
group by sizes.label
union all
select
    %(run_id)s,
    'largest_customer',
    'records',
    max(customers.record_count),
    null
from customers
having count(*) > 0
union all
select
    %(run_id)s,
    'decision_share',
    pairs.match_decision::text,
    pairs.pair_count / pairs.all_pairs,
    pairs.all_pairs
from pairs
union all
select
    %(run_id)s,
    'quarantine_rate',
    objects.source_system,
    objects.rejected_count / nullif(
        objects.row_count + objects.rejected_count, 0
    ),
    objects.row_count + objects.rejected_count
from objects
where objects.row_count + objects.rejected_count > 0
union all
select
    %(run_id)s,
    'conflicts',
    conflicts.kind,
    count(*),
    null
from gold.customer_attribute_conflicts as conflicts
group by conflicts.kind
union all
select
    %(run_id)s,
    'review_queue',
    queue.kind,
    count(*),
    null
from gold.steward_review_queue as queue
group by queue.kind
union all
select
    %(run_id)s,
    quality.measure,
    quality.source_system || '.' || quality.attribute,
    quality.share,
    quality.basis
from (
    select
        metrics.source_system,
        metrics.attribute,
        measures.measure,
        measures.share,
        measures.basis
    from gold.data_quality_metrics as metrics
    cross join
        lateral (
            values
            ('completeness', metrics.completeness, metrics.record_count),
            ('validity', metrics.validity, metrics.value_count),
            ('uniqueness', metrics.uniqueness, metrics.value_count),
            ('timeliness', metrics.timeliness, metrics.value_count)
        ) as measures (measure, share, basis)
    where
        metrics.run_id = %(run_id)s
        and metrics.scope = 'delivered'
        and measures.share is not null
) as quality
