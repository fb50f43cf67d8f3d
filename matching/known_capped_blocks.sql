-- One row per touched block that was capped before.
select
    capped_blocks.rule_id,
    capped_blocks.key,
    capped_blocks.profile_count,
    capped_blocks.anchor_limit,
    array_to_string(capped_blocks.anchors, ' ') as anchors
from pg_temp.touched_keys
inner join staging.capped_blocks
    on
        touched_keys.rule_id = capped_blocks.rule_id
        and touched_keys.key = capped_blocks.key
