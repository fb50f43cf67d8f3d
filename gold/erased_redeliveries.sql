-- One row per object that delivered erased records again: they were not taken in, but the object holds them.
-- One that is known, with all of these lines, is left as it is.
insert into gold.erasure_objects as known (
    object_id, object_key, etag, record_lines, text_lines
)
select
    objects.object_id,
    objects.object_key,
    objects.etag,
    array_agg(rejected.line_number order by rejected.line_number) as record_lines,
    '{}'::integer[] as text_lines
from raw.rejected_records as rejected
inner join raw.ingested_objects as objects
    on rejected.object_id = objects.object_id
where rejected.reason = 'erased'
group by objects.object_id
on conflict (object_id) do update
    set
        record_lines = known.record_lines || excluded.record_lines,
        rewritten_at = null
    where not known.record_lines @> excluded.record_lines
