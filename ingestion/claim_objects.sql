-- One row per object that this transaction takes in; another one that is at
-- work on the same object is waited for, and then the object is not claimed.
insert into raw.ingested_objects (
    source_system, object_key, etag, size_bytes, last_modified,
    row_count, rejected_count, run_id, delivery
)
select
    %(source)s,
    objects.*,
    0,
    0,
    %(run_id)s,
    (
        select count(*) + 1
        from raw.ingested_objects as known
        where known.object_key = objects.object_key and known.etag = objects.etag
    )
from
    unnest(
        %(keys)s::text[], %(etags)s::text[], %(sizes)s::bigint[],
        %(times)s::timestamptz[]
    ) as objects (object_key, etag, size_bytes, last_modified)
where
    not exists (
        select 1
        from raw.current_objects as known
        where known.object_key = objects.object_key and known.etag = objects.etag
    )
on conflict (object_key, etag, delivery) do nothing
returning object_key, object_id
