-- One row per compared pair whose left side is a touched profile; in the order in which the first run wrote them.
select candidates.*
from (
    select touched_profiles.profile_key
    from touched_profiles
    order by touched_profiles.profile_key
    offset 0 -- noqa: AM09
) as touched
inner join staging.compared_pairs as candidates
    on touched.profile_key = candidates.left_profile_key
