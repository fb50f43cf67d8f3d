-- One row per member of the given blocks of one rule.
select
    {rule_id}::smallint as rule_id,
    looked_up.key,
    blocking_keys.profile_key
from unnest({keys}::bigint[]) as looked_up (key)
inner join staging.blocking_keys
    on looked_up.key = blocking_keys.key_{rule_id}
