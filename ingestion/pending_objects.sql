-- One row per listed object whose content is not what was taken in last, in order of arrival.
with listed as (
    select
        object_key,
        etag,
        last_modified,
        ordinality - 1 as position
    from unnest(
        %(keys)s::text[], %(etags)s::text[], %(times)s::timestamptz[]
    ) with ordinality as objects (object_key, etag, last_modified, ordinality)
)

select listed.position
from listed
where
    not exists (
        select
        from raw.current_objects as known
        where known.object_key = listed.object_key and known.etag = listed.etag
    )
order by listed.last_modified, listed.object_key
