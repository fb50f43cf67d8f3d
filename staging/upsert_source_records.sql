-- One row per source record: add the delivered ones, replace older versions.
-- Ordered by key, so that the index is walked in order.
insert into staging.{target} as known
select delivered.*
from delivered
order by delivered.record_key
on conflict (record_key) do update
    set
        run_id = excluded.run_id,
        object_id = excluded.object_id,
        line_number = excluded.line_number,
        is_deleted = excluded.is_deleted,
        event_ts = excluded.event_ts,
        birth_date = excluded.birth_date,
        email = excluded.email,
        email_mailbox = excluded.email_mailbox,
        phone = excluded.phone,
        name = excluded.name,
        given_name = excluded.given_name,
        family_name = excluded.family_name,
        address = excluded.address,
        address_key = excluded.address_key,
        city = excluded.city,
        city_key = excluded.city_key,
        postal_code = excluded.postal_code,
        national_id = excluded.national_id,
        issues = excluded.issues
    -- A record of another id under the same key (two in 2^64) is left out
    -- rather than taken for a newer version.
    where
    known.record_id = excluded.record_id
    and (
        excluded.event_ts,
        (
            select (objects.last_modified, objects.object_key)
            from raw.ingested_objects as objects
            where objects.object_id = excluded.object_id
        ),
        excluded.line_number
    ) > (
        known.event_ts,
        (
            select (objects.last_modified, objects.object_key)
            from raw.ingested_objects as objects
            where objects.object_id = known.object_id
        ),
        known.line_number
    )
