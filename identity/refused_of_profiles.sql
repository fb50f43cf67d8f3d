-- One row per refused link with one of these profiles; two where both are.
select
    refused_links.left_profile_key,
    refused_links.right_profile_key
from unnest(%(profiles)s::bigint[]) as touched (profile_key)
inner join identity.refused_links
    on touched.profile_key = refused_links.left_profile_key
union all
select
    refused_links.left_profile_key,
    refused_links.right_profile_key
from unnest(%(profiles)s::bigint[]) as touched (profile_key)
inner join identity.refused_links
    on touched.profile_key = refused_links.right_profile_key
