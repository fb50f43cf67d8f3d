-- One row per other compared pair of touched profiles.
select
    candidates.left_profile_key,
    candidates.right_profile_key,
    candidates.match_weight
from staging.identity_match_candidates as candidates
where
    candidates.rule_id > 0
    and candidates.left_profile_key < candidates.right_profile_key
    and not (
        candidates.match_decision = 'AUTO_MERGE'
        or (%(merge_flagged)s and candidates.match_decision = 'FLAG_REVIEW')
    )
    and (
        %(everything)s
        or (
            candidates.left_profile_key in (
                select touched_profiles.profile_key
                from touched_profiles
            )
            and candidates.right_profile_key in (
                select touched_profiles.profile_key
                from touched_profiles
            )
        )
    )
