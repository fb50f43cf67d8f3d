-- One row per source, month and combination of attributes among the changed records: add them to the totals.
-- The union of the sources' changed records stands before it as changed_records; parallel workers may read it.
create temp table record_quality on commit drop as
-- By day first: a day is a division, a month a look at the calendar, and there are few days.
with days as (
    select
        changed_records.source_system,
        date_bin('1 day', changed_records.event_ts, '1970-01-01 00:00:00+00')
            as event_day,
        gold.delivered_bits(
            changed_records.email,
            changed_records.phone,
            changed_records.name,
            changed_records.birth_date,
            changed_records.address,
            changed_records.city,
            changed_records.postal_code,
            changed_records.national_id
        ) as valid,
        gold.flagged_bits(changed_records.issues) as flagged,
        count(*) as record_count
    from ({changed_records}) as changed_records
    where not changed_records.is_deleted
    group by 1, 2, 3, 4
)

select
    days.source_system,
    date_trunc('month', days.event_day, 'UTC')::date as event_month,
    days.valid | days.flagged as delivered,
    days.flagged,
    sum(days.record_count)::bigint as record_count
from days
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
