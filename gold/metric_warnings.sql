-- One row per share of this run that is outside its usual range.
-- Usual is the median of the last %(window)s runs that have the share and took something in: those after a steward's
-- decisions say the day before once more, and the next day would be far from it. Outside is further away than the largest of
-- four robust standard deviations (1.4826 x median absolute deviation), three standard errors of a share of this
-- basis, and two percentage points. Shares of few records, or with a short past, say nothing.
insert into gold.metric_warnings (
    run_id,
    metric,
    subject,
    value,
    usual,
    tolerance,
    run_count
)
with current_shares as (
    select
        run_metrics.metric,
        run_metrics.subject,
        run_metrics.value,
        run_metrics.basis
    from gold.run_metrics
    where
        run_metrics.run_id = %(run_id)s
        and run_metrics.basis >= %(min_basis)s
),

past_shares as (
    select
        current_shares.metric,
        current_shares.subject,
        past.value
    from current_shares
    cross join lateral (
        select run_metrics.value
        from gold.run_metrics
        where
            run_metrics.metric = current_shares.metric
            and run_metrics.subject = current_shares.subject
            and run_metrics.run_id < %(run_id)s
            and run_metrics.basis >= %(min_basis)s
            and exists (
                select 1
                from gold.run_metrics as delivered
                where
                    delivered.run_id = run_metrics.run_id
                    and delivered.metric in ('quarantine_rate', 'completeness')
            )
        order by run_metrics.run_id desc
        limit %(window)s
    ) as past
),

medians as (
    select
        past_shares.metric,
        past_shares.subject,
        count(*) as run_count,
        percentile_cont(0.5) within group (
            order by past_shares.value
        ) as usual
    from past_shares
    group by past_shares.metric, past_shares.subject
    having count(*) >= %(min_runs)s
),

deviations as (
    select
        past_shares.metric,
        past_shares.subject,
        percentile_cont(0.5) within group (
            order by abs(past_shares.value - medians.usual)
        ) as median_absolute_deviation
    from past_shares
    inner join medians
        on
            past_shares.metric = medians.metric
            and past_shares.subject = medians.subject
    group by past_shares.metric, past_shares.subject
),

ranges as (
    select
        current_shares.metric,
        current_shares.subject,
        current_shares.value,
        medians.usual,
        medians.run_count,
        greatest(
            4 * 1.4826 * deviations.median_absolute_deviation,
            3 * sqrt(
                greatest(medians.usual * (1 - medians.usual), 0)
                / current_shares.basis
            ),
            0.02
        ) as tolerance
    from current_shares
    inner join medians
        on
            current_shares.metric = medians.metric
            and current_shares.subject = medians.subject
    inner join deviations
        on
            current_shares.metric = deviations.metric
            and current_shares.subject = deviations.subject
)

select
    %(run_id)s as run_id,
    ranges.metric,
    ranges.subject,
    ranges.value,
    ranges.usual,
    ranges.tolerance,
    ranges.run_count
from ranges
where abs(ranges.value - ranges.usual) > ranges.tolerance
