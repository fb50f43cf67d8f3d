-- One row per pair weighed since the mark that may touch its profiles. A pair with a new profile touches the other side
-- only if it merges: the new one is touched as a changed record. A pair of known profiles that was weighed anew may
-- change what holds together on both sides.
with newborn as (
    select match_profiles.profile_key
    from staging.match_profiles
    where match_profiles.run_id > %(profile_mark)s
)

select
    candidates.left_profile_key,
    candidates.right_profile_key,
    decided.is_merging
from staging.compared_pairs as candidates
cross join
    lateral (
        select candidates.decision >= case when %(merge_flagged)s then 1 else 2 end as is_merging
    ) as decided
where
    candidates.run_id > %(mark)s
    and (
        decided.is_merging
        or (
            candidates.left_profile_key not in (select newborn.profile_key from newborn)
            and candidates.right_profile_key not in (select newborn.profile_key from newborn)
        )
    )
