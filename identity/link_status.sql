-- Which of the touched edges stand and which are refused, written where it changed. Takes the temp table
-- refused_links.
update identity.match_links
set
    status = 'refused',
    refused_reason = refused_links.refused_reason,
    run_id = %(run_id)s
from refused_links
where
    match_links.left_profile_key = refused_links.left_profile_key
    and match_links.right_profile_key = refused_links.right_profile_key
    and match_links.status <> 'waiting'
    and match_links.refused_reason is distinct from refused_links.refused_reason;

update identity.match_links
set
    status = 'standing',
    refused_reason = null,
    run_id = %(run_id)s
from touched_profiles
where
    match_links.left_profile_key = touched_profiles.profile_key
    and match_links.status = 'refused'
    and not exists (
        select 1
        from refused_links
        where
            refused_links.left_profile_key = match_links.left_profile_key
            and refused_links.right_profile_key = match_links.right_profile_key
    );
