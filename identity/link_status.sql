-- Which of the touched edges stand and which are refused, written where it
-- changed. Takes the temp table refused_links.
update identity.match_links
set
    status = case
        when decided.refused_reason is null then 'standing'
        else 'refused'
    end::identity.link_status,
    refused_reason = decided.refused_reason,
    run_id = %(run_id)s
from (
    select
        known.left_profile_key,
        known.right_profile_key,
        refused_links.refused_reason
    from touched_profiles
    inner join identity.match_links as known
        on touched_profiles.profile_key = known.left_profile_key
    left join refused_links
        on
            known.left_profile_key = refused_links.left_profile_key
            and known.right_profile_key = refused_links.right_profile_key
    where
        known.status <> 'waiting'
        and known.refused_reason is distinct from refused_links.refused_reason
) as decided
where
    match_links.left_profile_key = decided.left_profile_key
    and match_links.right_profile_key = decided.right_profile_key
