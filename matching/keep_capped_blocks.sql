-- One row per capped block: those that were looked at and are not, or no longer, over the limit go.
delete from staging.capped_blocks as known
using pg_temp.touched_keys
where
    known.rule_id = touched_keys.rule_id
    and known.key = touched_keys.key
    and not exists (
        select 1
        from pg_temp.capped
        where capped.rule_id = known.rule_id and capped.key = known.key
    );

insert into staging.capped_blocks (
    rule_id, key, profile_count, anchor_limit, anchors, example_profile_key, run_id
)
select
    capped.rule_id,
    capped.key,
    capped.profile_count,
    capped.anchor_limit,
    capped.anchors,
    capped.anchors[1],
    %(run_id)s
from pg_temp.capped
on conflict on constraint capped_blocks_pkey do update
    set
        profile_count = excluded.profile_count,
        anchor_limit = excluded.anchor_limit,
        anchors = excluded.anchors,
        example_profile_key = excluded.example_profile_key,
        run_id = excluded.run_id;
