-- One row per live profile that came to life since the mark, or had another record: the hash of the start of its
-- name, and of its key under each rule; 0 where there is none.
select
    profiles.profile_key,
    coalesce(hashtextextended(profiles.name, 0), 0) as name,
    {keys}
from (
    select
        p.profile_key,
        staging.start_of_name(p.family_name, p.given_name) as name,
        {terms}
    from staging.match_profiles as p
    where
        p.run_id > {mark}
        and p.record_count > 0
        and {which}
    -- So that a term of several rules is made once.
    offset 0 -- noqa: AM09
) as profiles
