-- One row per source, month and combination of attributes among the changed records: add them to the totals.
-- days stands for the union of the sources' changed_days.sql.
create temp table record_quality on commit drop as
select
    days.source_system,
    date_trunc('month', days.event_day, 'UTC')::date as event_month,
    days.valid | days.flagged as delivered,
    days.flagged,
    sum(days.record_count)::bigint as record_count
from ({days}) as days
group by 1, 2, 3, 4;

insert into gold.record_quality_totals as total (
    source_system,
    event_month,
    delivered,
    flagged,
    record_count
)
select
    record_quality.source_system,
    record_quality.event_month,
    record_quality.delivered,
    record_quality.flagged,
    record_quality.record_count
from record_quality
on conflict (source_system, event_month, delivered, flagged) do update
    set record_count = total.record_count + excluded.record_count;
