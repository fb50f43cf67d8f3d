-- One row: the source as the sources file maps it, changed where it is known.
-- A new one takes the first number that is free, where the identity would draw
-- one for a change too: only 63 numbers have a bit.
with changed as (
    update raw.sources
    set
        prefix = %(prefix)s,
        raw_table = %(raw_table)s,
        staging_table = %(staging_table)s,
        record_id_field = %(record_id)s,
        event_ts_field = %(event_ts)s,
        attributes = %(attributes)s,
        day_first = %(day_first)s,
        region = %(region)s,
        updated_at = now()
    where source_system = %(name)s
    returning source_system
)

insert into raw.sources (
    source_system, prefix, raw_table, staging_table, record_id_field,
    event_ts_field, attributes, day_first, region, source_number
)
overriding system value
select
    %(name)s,
    %(prefix)s,
    %(raw_table)s,
    %(staging_table)s,
    %(record_id)s,
    %(event_ts)s,
    %(attributes)s,
    %(day_first)s,
    %(region)s,
    (
        select min(free.source_number)
        from generate_series(1, 32767) as free (source_number)
        where
            not exists (
                select 1
                from raw.sources
                where sources.source_number = free.source_number
            )
    )
where not exists (select 1 from changed)
