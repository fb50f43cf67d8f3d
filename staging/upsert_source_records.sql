-- One row: how many source records were new or newer.
-- Ordered by key, so that the index is walked in order.
with written as (
    insert into {target} as known (
        record_key,
        run_id,
        object_id,
        line_number,
        is_deleted,
        event_ts,
        birth_date,
        record_id,
        email,
        email_mailbox,
        phone,
        name,
        given_name,
        family_name,
        address,
        address_key,
        city,
        city_key,
        postal_code,
        national_id,
        issues
    )
    select
        delivered.record_key,
        delivered.run_id,
        delivered.object_id,
        delivered.line_number,
        delivered.is_deleted,
        delivered.event_ts,
        delivered.birth_date,
        delivered.record_id,
        delivered.email,
        delivered.email_mailbox,
        delivered.phone,
        delivered.name,
        delivered.given_name,
        delivered.family_name,
        delivered.address,
        delivered.address_key,
        delivered.city,
        delivered.city_key,
        delivered.postal_code,
        delivered.national_id,
        delivered.issues
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
                select (objects.last_modified, objects.object_key, objects.object_id)
                from raw.ingested_objects as objects
                where objects.object_id = excluded.object_id
            ),
            excluded.line_number
        ) > (
            known.event_ts,
            (
                select (objects.last_modified, objects.object_key, objects.object_id)
                from raw.ingested_objects as objects
                where objects.object_id = known.object_id
            ),
            known.line_number
        )
    returning
        old.record_key as old_record_key,
        old.profile_key as old_profile_key,
        old.run_id as old_run_id,
        old.is_deleted as was_deleted
),

-- What phase 4 may have counted.
replaced as (
    insert into staging.replaced_versions (record_key, profile_key, run_id)
    select
        written.old_record_key,
        written.old_profile_key,
        written.old_run_id
    from written
    where not written.was_deleted and written.old_run_id < %(run_id)s
)

select count(*) from written
