-- One row per touched profile; in the order in which the first run wrote them.
select match_profiles.*
from (
    select touched_profiles.profile_key
    from touched_profiles
    order by touched_profiles.profile_key
    offset 0 -- noqa: AM09
) as touched
inner join staging.match_profiles
    on touched.profile_key = match_profiles.profile_key
