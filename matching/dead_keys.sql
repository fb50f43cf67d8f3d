-- One row per key of a profile that died.
select
    keys.rule_id::smallint as rule_id,
    keys.key,
    dead_keys.profile_key
from pg_temp.dead_keys
cross join unnest(dead_keys.keys) with ordinality as keys (key, rule_id)
where keys.key is not null
