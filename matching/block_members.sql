-- One row per member of a block of one rule, among the blocks in looked_up.
select
    looked_up.rule_id,
    looked_up.key,
    blocking_keys.profile_key
from pg_temp.looked_up
inner join staging.blocking_keys
    on looked_up.key = blocking_keys.keys[{rule_id}]
where looked_up.rule_id = {rule_id}
