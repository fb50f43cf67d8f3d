-- One row per given block that was capped before.
select
    capped_blocks.rule_id,
    capped_blocks.key,
    capped_blocks.profile_count,
    capped_blocks.anchor_limit,
    -- That there are none is something else than that they are not known.
    case
        when cardinality(capped_blocks.anchors) = 0 then 'none'
        else array_to_string(capped_blocks.anchors, ' ')
    end as anchors
from
    unnest(%(rule_ids)s::smallint[], %(keys)s::bigint[])
        as block (rule_id, key)
inner join staging.capped_blocks
    on
        block.rule_id = capped_blocks.rule_id
        and block.key = capped_blocks.key
