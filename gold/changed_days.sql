-- One row per day of the event and combination of attributes among the changed records of one source.
-- By day first: a day is a division, a month a look at the calendar, and there are few days.
select
    {source_system} as source_system,
    date_bin('1 day', records.event_ts, '1970-01-01 00:00:00+00') as event_day,
    gold.delivered_bits(
        records.email,
        records.phone,
        records.name,
        records.birth_date,
        records.address,
        records.city,
        records.postal_code,
        records.national_id
    ) as valid,
    gold.flagged_bits(records.issues) as flagged,
    count(*) as record_count
from staging.{staging_table} as records
where records.run_id > {mark} and not records.is_deleted
group by 2, 3, 4
