-- One row: everything the quality report shows, from receipts and metrics. No value of a person is in it.
with newest as (
    select max(run_metrics.run_id) as run_id
    from gold.run_metrics
),

metrics as (
    select run_metrics.*
    from gold.run_metrics
    inner join newest on run_metrics.run_id = newest.run_id
),

lines as (
    select
        coalesce(sum(objects.row_count + objects.rejected_count), 0)::bigint as delivered,
        coalesce(sum(objects.row_count), 0)::bigint as readable
    from raw.ingested_objects as objects
),

compositions as (
    select
        coalesce(sum(totals.customer_count), 0)::bigint as customers,
        coalesce(sum(totals.customer_count) filter (
            where bit_count(totals.source_mask::bit(64)) > 1
        ), 0)::bigint as in_several_sources
    from gold.customer_composition_totals as totals
),

scores as (
    select
        confidence.match_decision,
        confidence.score_from,
        sum(confidence.pair_count)::bigint as pair_count
    from gold.match_confidence_metrics as confidence
    group by confidence.match_decision, confidence.score_from
),

recent_runs as (
    select distinct run_metrics.run_id
    from gold.run_metrics
    order by run_metrics.run_id desc
    limit 60
),

queue as (
    select
        review.kind,
        review.priority,
        review.global_customer_id,
        review.other_customer_id,
        review.waiting_since,
        case review.kind
            when 'flagged_pair' then review.explanation
            when 'refused_link' then review.explanation
            when 'large_customer' then review.explanation
            when 'shared_value'
                then
                    'one ' || (
                        select string_agg(keys.attribute, ', ')
                        from jsonb_object_keys(review.side_by_side)
                            as keys (attribute)
                    ) || ' under many different names'
            else
                (
                    select
                        string_agg(
                            format(
                                '%s different values of %s',
                                jsonb_array_length(said.listed),
                                replace(said.attribute, '_', ' ')
                            ),
                            ', '
                        )
                    from jsonb_each(review.side_by_side)
                        as said (attribute, listed)
                )
        end as explanation,
        row_number() over () as place
    from (
        select
            queue_of_kind.*,
            row_number() over (partition by queue_of_kind.kind) as place_in_kind
        from gold.steward_review_queue as queue_of_kind
    ) as review
    where review.place_in_kind <= 6
)

select
    newest.run_id,
    runs.started_at,
    lines.delivered,
    lines.readable,
    compositions.customers,
    compositions.in_several_sources,
    (
        select coalesce(sum(metrics.value), 0)::bigint
        from metrics
        where metrics.metric = 'records'
    ) as records,
    (
        select coalesce(sum(metrics.value), 0)::bigint
        from metrics
        where metrics.metric = 'conflicts'
    ) as conflicts,
    (
        select coalesce(sum(metrics.value), 0)::bigint
        from metrics
        where metrics.metric = 'review_queue'
    ) as review_items,
    -- Of these more may wait than the queue shows.
    (
        select jsonb_agg(metrics.subject)
        from metrics
        where
            metrics.metric = 'review_queue'
            and metrics.value >= gold.review_queue_limit(metrics.subject)
    ) as review_capped,
    (
        select
            jsonb_agg(
                jsonb_build_array(
                    metrics.metric,
                    metrics.subject,
                    metrics.value,
                    metrics.basis
                )
                order by metrics.metric, metrics.subject
            )
        from metrics
    ) as metrics,
    (
        select
            jsonb_agg(
                jsonb_build_array(
                    scores.match_decision, scores.score_from, scores.pair_count
                )
                order by scores.match_decision, scores.score_from
            )
        from scores
    ) as scores,
    (
        select
            jsonb_build_object(
                'version', models.model_version,
                'method', models.method,
                'trained_at', models.trained_at,
                'auto_merge', models.parameters -> 'auto_merge',
                'flag_review', models.parameters -> 'flag_review',
                'comparisons', jsonb_path_query_array(
                    models.parameters, '$.comparisons[*].levels'
                ),
                'names', jsonb_path_query_array(
                    models.parameters, '$.comparisons[*].name'
                ),
                'support', jsonb_path_query_array(
                    models.parameters, '$.comparisons[*].support'
                )
            )
        from identity.match_models as models
        where models.is_current
    ) as model,
    (
        select
            jsonb_agg(
                jsonb_build_object(
                    'source', quality.source_system,
                    'attribute', quality.attribute,
                    'values', quality.value_count,
                    'completeness', quality.completeness,
                    'validity', quality.validity,
                    'uniqueness', delivered.uniqueness,
                    'consistency', quality.consistency,
                    'timeliness', quality.timeliness
                )
                order by
                    quality.source_system,
                    quality_attributes.bit
            )
        from gold.data_quality_metrics as quality
        inner join gold.quality_attributes
            on quality.attribute = quality_attributes.attribute
        left join gold.data_quality_metrics as delivered
            on
                quality.run_id = delivered.run_id
                and quality.source_system = delivered.source_system
                and quality.attribute = delivered.attribute
                and delivered.scope = 'delivered'
        where quality.run_id = newest.run_id and quality.scope = 'standing'
    ) as quality,
    (
        select
            jsonb_agg(
                jsonb_build_array(
                    trend.run_id, trend.metric, trend.subject, trend.value
                )
                order by trend.metric, trend.subject, trend.run_id
            )
        from gold.run_metrics as trend
        inner join recent_runs on trend.run_id = recent_runs.run_id
        where
            trend.metric in (
                'customers', 'match_rate', 'duplicate_rate', 'quarantine_rate'
            )
    ) as trends,
    (
        select
            jsonb_agg(
                jsonb_build_object(
                    'metric', warnings.metric,
                    'subject', warnings.subject,
                    'value', warnings.value,
                    'usual', warnings.usual,
                    'run_count', warnings.run_count
                )
                order by
                    abs(warnings.value - warnings.usual)
                    / warnings.tolerance desc,
                    warnings.metric,
                    warnings.subject
            )
        from gold.metric_warnings as warnings
        where warnings.run_id = newest.run_id
    ) as warnings,
    (
        select
            jsonb_agg(
                jsonb_build_object(
                    'kind', queue.kind,
                    'priority', queue.priority,
                    'customer', queue.global_customer_id,
                    'other', queue.other_customer_id,
                    'since', queue.waiting_since,
                    'reason', queue.explanation
                )
                order by queue.place
            )
        from queue
    ) as queue
from newest
inner join gold.pipeline_runs as runs
    on newest.run_id = runs.run_id
cross join lines
cross join compositions
