-- One row per live profile that came to life since the mark, or had another record: the hash of its key under each
-- rule, 0 where the rule says nothing.
select
    profiles.profile_key,
    {keys}
from (
    select
        p.profile_key,
        {terms}
    from staging.match_profiles as p
    where
        p.run_id > {mark}
        and p.record_count > 0
        and {which}
    -- So that a term of several rules is made once.
    offset 0
) as profiles
