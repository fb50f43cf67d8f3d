-- One row per edge that merges, if nothing speaks against it.
select
    match_links.left_profile_key,
    match_links.right_profile_key,
    match_links.match_weight,
    match_links.total_confidence_score
from identity.match_links
where
    (match_links.match_decision = 'AUTO_MERGE' or %(merge_flagged)s)
    and (
        %(everything)s
        or match_links.left_profile_key in (
            select touched_profiles.profile_key
            from touched_profiles
        )
    )
