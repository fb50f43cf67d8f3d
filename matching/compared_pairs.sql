-- One row per compared pair in force that a rule found, of the given left sides.
select
    candidates.left_profile_key,
    candidates.right_profile_key
from unnest(%(profile_keys)s::bigint[]) as reshaped (profile_key)
inner join staging.compared_pairs as candidates
    on reshaped.profile_key = candidates.left_profile_key
where candidates.rules > 0
