-- One row per capped block: those given are not, or no longer, over the limit; those in pg_temp.capped are.
delete from staging.capped_blocks
using
    unnest(%(rule_ids)s::smallint[], %(keys)s::bigint[])
        as block (rule_id, key)
where
    capped_blocks.rule_id = block.rule_id
    and capped_blocks.key = block.key;

insert into staging.capped_blocks (
    rule_id, key, profile_count, anchor_limit, anchors, example_profile_key, run_id
)
select
    capped.rule_id,
    capped.key,
    capped.profile_count,
    capped.anchor_limit,
    capped.anchors,
    coalesce(capped.example, known.example_profile_key) as example_profile_key,
    %(run_id)s as run_id
from pg_temp.capped
left join staging.capped_blocks as known
    on capped.rule_id = known.rule_id and capped.key = known.key
on conflict on constraint capped_blocks_pkey do update
    set
        profile_count = excluded.profile_count,
        anchor_limit = excluded.anchor_limit,
        anchors = excluded.anchors,
        example_profile_key = excluded.example_profile_key,
        run_id = excluded.run_id;
