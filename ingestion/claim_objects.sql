-- One row per object that this transaction takes in; another one that is at
-- work on the same object is waited for, and then the object is not claimed.
insert into raw.ingested_objects (
    source_system, object_key, etag, size_bytes, last_modified,
    row_count, rejected_count, run_id
)
select
    %(source)s,
    objects.*,
    0,
    0,
    %(run_id)s
from
    unnest(
        %(keys)s::text[], %(etags)s::text[], %(sizes)s::bigint[],
        %(times)s::timestamptz[]
    ) as objects
on conflict (object_key, etag) do nothing
returning object_key, object_id
