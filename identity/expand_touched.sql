-- One step through the graph: from the profiles and customers of the last step
-- to the customers of those profiles, the profiles of those customers, the
-- other ends of links that are refused, and the records of the same decision.
-- A link that stands is between profiles of one customer, or as new as its pair.
insert into touched_customers (global_customer_id, step)
select distinct
    memberships.global_customer_id,
    %(step)s
from touched_profiles
inner join identity.memberships
    on touched_profiles.profile_key = memberships.profile_key
where touched_profiles.step = %(step)s - 1
on conflict do nothing;

insert into touched_members
select
    map.*,
    %(step)s
from touched_customers
inner join identity.memberships as map
    on touched_customers.global_customer_id = map.global_customer_id
where
    touched_customers.step = %(step)s
    or (touched_customers.step = 0 and %(step)s = 1);

insert into touched_profiles (profile_key, step)
select
    touched_members.profile_key,
    %(step)s
from touched_members
where touched_members.step = %(step)s
union
select
    refused_links.right_profile_key,
    %(step)s
from touched_profiles
inner join identity.refused_links
    on touched_profiles.profile_key = refused_links.left_profile_key
where touched_profiles.step = %(step)s - 1
union
select
    refused_links.left_profile_key,
    %(step)s
from touched_profiles
inner join identity.refused_links
    on touched_profiles.profile_key = refused_links.right_profile_key
where touched_profiles.step = %(step)s - 1
union
select
    others.profile_key,
    %(step)s
from identity.active_steward_decisions as active
inner join staging.identity_inputs
    on active.record_key = identity_inputs.record_key
inner join touched_profiles
    on identity_inputs.profile_key = touched_profiles.profile_key
inner join identity.active_steward_decisions as same_decision
    on active.decision_id = same_decision.decision_id
inner join staging.identity_inputs as others
    on same_decision.record_key = others.record_key
where touched_profiles.step = %(step)s - 1
on conflict do nothing;
