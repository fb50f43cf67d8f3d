-- One step through the graph: from the profiles and customers of the last step
-- to the customers of those profiles, the profiles of those customers, the
-- other ends of links that merge, and the records of the same decision.
insert into touched_customers (global_customer_id, step)
select distinct
    customer_identity_map.global_customer_id,
    %(step)s
from touched_profiles
inner join staging.identity_inputs
    on touched_profiles.profile_key = identity_inputs.profile_key
inner join identity.customer_identity_map
    on identity_inputs.record_key = customer_identity_map.record_key
where touched_profiles.step = %(step)s - 1
on conflict do nothing;

insert into touched_profiles (profile_key, step)
select
    identity_inputs.profile_key,
    %(step)s
from touched_customers
inner join identity.customer_identity_map
    on
        touched_customers.global_customer_id
        = customer_identity_map.global_customer_id
inner join staging.identity_inputs
    on customer_identity_map.record_key = identity_inputs.record_key
where
    touched_customers.step = %(step)s
    or (touched_customers.step = 0 and %(step)s = 1)
union
select
    match_links.right_profile_key,
    %(step)s
from touched_profiles
inner join identity.match_links
    on touched_profiles.profile_key = match_links.left_profile_key
where touched_profiles.step = %(step)s - 1 and match_links.status <> 'waiting'
union
select
    match_links.left_profile_key,
    %(step)s
from touched_profiles
inner join identity.match_links
    on touched_profiles.profile_key = match_links.right_profile_key
where touched_profiles.step = %(step)s - 1 and match_links.status <> 'waiting'
union
select
    others.profile_key,
    %(step)s
from touched_profiles
inner join staging.identity_inputs
    on touched_profiles.profile_key = identity_inputs.profile_key
inner join identity.active_steward_decisions as active
    on identity_inputs.record_key = active.record_key
inner join identity.active_steward_decisions as same_decision
    on active.decision_id = same_decision.decision_id
inner join staging.identity_inputs as others
    on same_decision.record_key = others.record_key
where touched_profiles.step = %(step)s - 1
on conflict do nothing;
