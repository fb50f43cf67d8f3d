-- One row per customer that a record of these profiles is in.
select distinct memberships.global_customer_id
from unnest(%(profiles)s::bigint[]) as touched (profile_key)
inner join identity.memberships
    on touched.profile_key = memberships.profile_key
