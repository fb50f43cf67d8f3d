-- One row per edge that merges, if nothing speaks against it.
select
    match_links.left_profile_key,
    match_links.right_profile_key,
    match_links.match_weight,
    match_links.total_confidence_score
from touched_profiles
inner join identity.match_links
    on touched_profiles.profile_key = match_links.left_profile_key
where match_links.match_decision = 'AUTO_MERGE' or %(merge_flagged)s
