-- One row per scope, source and attribute: the records that changed in this run, and all records.
insert into gold.data_quality_metrics (
    run_id,
    scope,
    source_system,
    attribute,
    record_count,
    value_count,
    completeness,
    validity,
    uniqueness,
    consistency,
    timeliness
)
with combinations as (
    select
        'delivered' as scope,
        record_quality.*
    from record_quality
    union all
    select
        'standing' as scope,
        record_quality_totals.*
    from gold.record_quality_totals
    where record_quality_totals.record_count > 0
),

-- An event from the future must not make all others look old.
newest_event as (
    select
        least(
            max(combinations.event_month),
            date_trunc('month', now(), 'UTC')::date
        ) as event_month
    from combinations
),

counts as (
    select
        combinations.scope,
        combinations.source_system,
        quality_attributes.attribute,
        sum(combinations.record_count)::bigint as record_count,
        coalesce(sum(combinations.record_count) filter (
            where combinations.delivered & quality_attributes.bit > 0
        ), 0)::bigint as value_count,
        coalesce(sum(combinations.record_count) filter (
            where combinations.flagged & quality_attributes.bit > 0
        ), 0)::bigint as flagged_count,
        coalesce(sum(combinations.record_count) filter (
            where
            combinations.delivered & quality_attributes.bit > 0
            and combinations.event_month
            > newest_event.event_month - interval '12 months'
        ), 0)::bigint as timely_count
    from combinations
    inner join raw.sources
        on combinations.source_system = sources.source_system
    -- The attributes that the source has.
    inner join gold.quality_attributes
        on
            sources.attributes ? quality_attributes.attribute
            or (
                quality_attributes.attribute = 'name'
                and sources.attributes ?| '{given_name, family_name}'
            )
    cross join newest_event
    group by
        combinations.scope,
        combinations.source_system,
        quality_attributes.attribute
),

source_customers as (
    select
        sources.source_system,
        sum(totals.customer_count) as customer_count
    from gold.customer_composition_totals as totals
    inner join raw.sources
        on totals.source_mask & sources.source_bit > 0
    group by sources.source_system
),

source_conflicts as (
    select
        sources.source_system,
        conflicts.attribute,
        count(*) as conflict_count
    from gold.customer_attribute_conflicts as conflicts
    cross join unnest(conflicts.sources) as sources (source_system)
    group by sources.source_system, conflicts.attribute
)

select
    %(run_id)s as run_id,
    counts.scope,
    counts.source_system,
    counts.attribute,
    counts.record_count,
    counts.value_count,
    counts.value_count::real / nullif(counts.record_count, 0) as completeness,
    1 - counts.flagged_count::real / nullif(counts.value_count, 0) as validity,
    distinct_values.value_count::real
    / nullif(counts.value_count - counts.flagged_count, 0) as uniqueness,
    case
        when counts.scope = 'standing' and counts.value_count > 0
            then
                1 - coalesce(source_conflicts.conflict_count, 0)::real
                / nullif(source_customers.customer_count, 0)::real
    end as consistency,
    counts.timely_count::real / nullif(counts.value_count, 0) as timeliness
from counts
left join distinct_values
    on
        counts.scope = 'delivered'
        and counts.source_system = distinct_values.source_system
        and counts.attribute = distinct_values.attribute
left join source_customers
    on counts.source_system = source_customers.source_system
left join source_conflicts
    on
        counts.source_system = source_conflicts.source_system
        and counts.attribute = source_conflicts.attribute
where counts.record_count > 0
