-- One row: the summary of a run. Metrics of an unchanged run are those of the last run that changed something.
with this_run as (
    select runs.*
    from gold.pipeline_runs as runs
    where runs.run_id = %(run_id)s
),

phases as (
    select
        phases.*,
        phases.detail ? 'skipped' as skipped
    from gold.pipeline_phases as phases
    inner join this_run
        on phases.run_id = this_run.run_id
),

objects as (
    select
        ingested_objects.source_system,
        sum(ingested_objects.row_count)::bigint as row_count,
        sum(ingested_objects.rejected_count)::bigint as rejected_count
    from raw.ingested_objects
    inner join this_run
        on ingested_objects.run_id = this_run.run_id
    group by ingested_objects.source_system
),

pairs as (
    select
        metrics.match_decision::text as match_decision,
        sum(metrics.pair_count)::bigint as pair_count
    from gold.match_confidence_metrics as metrics
    inner join this_run
        on metrics.run_id = this_run.run_id
    group by metrics.match_decision
),

newest_metrics as (
    select run_metrics.*
    from gold.run_metrics
    where
        run_metrics.run_id = (
            select max(known.run_id)
            from gold.run_metrics as known
            inner join this_run
                on known.run_id <= this_run.run_id
        )
),

-- Found by the run's number as it is written here: the planner knows how many there are, and needs not read all.
opened as not materialized (
    select
        history.global_customer_id,
        history.version
    from gold.dim_customers_history as history
    where history.run_id = %(run_id)s
),

versions as (
    select
        (
            select count(*)
            from opened
            where opened.version = 1
        ) as new_customers,
        -- Once, however often in the run.
        (
            select count(distinct opened.global_customer_id)
            from opened
            where opened.version > 1
        ) as changed_customers
),

closed as (
    select
        count(*) filter (where history.merged_into is not null)
            as merged_customers,
        count(*) filter (where history.merged_into is null) as closed_customers
    from gold.dim_customers_history as history
    where
        history.closed_run_id = %(run_id)s
        and not exists (
            select 1
            from opened
            where
                opened.global_customer_id = history.global_customer_id
                and opened.version = history.version + 1
        )
),

warnings as (
    select
        metric_warnings.*,
        row_number() over (
            order by
                abs(metric_warnings.value - metric_warnings.usual)
                / metric_warnings.tolerance desc,
                metric_warnings.metric,
                metric_warnings.subject
        ) as place
    from gold.metric_warnings
    inner join this_run
        on metric_warnings.run_id = this_run.run_id
)

select
    this_run.run_id,
    this_run.status,
    this_run.started_at,
    extract(epoch from this_run.finished_at - this_run.started_at)::float
        as seconds,
    (select coalesce(sum(objects.row_count), 0) from objects)::bigint
        as records_in,
    (
        select
            jsonb_object_agg(objects.source_system, objects.row_count)
            filter (where objects.row_count > 0)
        from objects
    ) as records_by_source,
    (select coalesce(sum(objects.rejected_count), 0) from objects)::bigint
        as quarantined,
    (select coalesce(sum(pairs.pair_count), 0) from pairs)::bigint as pairs,
    (
        select jsonb_object_agg(pairs.match_decision, pairs.pair_count)
        from pairs
    ) as decisions,
    (
        select newest_metrics.value::bigint
        from newest_metrics
        where newest_metrics.metric = 'customers'
    ) as customers,
    versions.new_customers,
    versions.changed_customers,
    closed.merged_customers,
    closed.closed_customers,
    (
        select coalesce(sum(newest_metrics.value), 0)::bigint
        from newest_metrics
        where newest_metrics.metric = 'conflicts'
    ) as conflicts,
    (
        select
            jsonb_object_agg(
                newest_metrics.subject, newest_metrics.value::bigint
            )
        from newest_metrics
        where newest_metrics.metric = 'conflicts'
    ) as conflicts_by_kind,
    (
        select coalesce(sum(newest_metrics.value), 0)::bigint
        from newest_metrics
        where newest_metrics.metric = 'review_queue'
    ) as review_items,
    (
        select
            jsonb_object_agg(
                newest_metrics.subject, newest_metrics.value::bigint
            )
        from newest_metrics
        where newest_metrics.metric = 'review_queue'
    ) as review_by_kind,
    -- Of these more may wait than the queue shows.
    (
        select jsonb_agg(newest_metrics.subject)
        from newest_metrics
        where
            newest_metrics.metric = 'review_queue'
            and newest_metrics.value
            >= gold.review_queue_limit(newest_metrics.subject)
    ) as review_capped,
    (
        select
            jsonb_agg(
                jsonb_build_object(
                    'metric', warnings.metric,
                    'subject', warnings.subject,
                    'value', warnings.value,
                    'usual', warnings.usual
                )
                order by warnings.place
            )
        from warnings
        where warnings.place <= 5
    ) as warnings,
    (
        select count(*) from warnings
        where warnings.place > 5
    ) as more_warnings,
    (
        select
            jsonb_agg(
                jsonb_build_object(
                    'phase', phases.phase,
                    'script', phases.script,
                    'status', phases.status,
                    'seconds', phases.seconds,
                    'skipped', phases.skipped
                )
                order by phases.started_at, phases.script
            )
        from phases
    ) as phases
from this_run
cross join versions
cross join closed
