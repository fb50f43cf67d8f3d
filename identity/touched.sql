-- What has to be resolved again: one row per profile and per customer that a
-- changed record, a newly compared pair or a steward's decision touches.
-- expand_touched.sql then follows the graph from them.
create temp table changed_decisions on commit drop as
select distinct active.decision_id
from identity.active_steward_decisions as active
where
    not exists (
        select 1
        from identity.applied_decisions
        where applied_decisions.decision_id = active.decision_id
    )
union all
select applied_decisions.decision_id
from identity.applied_decisions
where not exists (
    select 1
    from identity.active_steward_decisions as active
    where active.decision_id = applied_decisions.decision_id
);

insert into touched_profiles (profile_key, step)
select
    identity_inputs.profile_key,
    0
from staging.identity_inputs
where identity_inputs.run_id > %(input_mark)s
union
select
    candidates.left_profile_key,
    0
from staging.identity_match_candidates as candidates
where candidates.run_id > %(mark)s
union
select
    candidates.right_profile_key,
    0
from staging.identity_match_candidates as candidates
where candidates.run_id > %(mark)s
union
select
    identity_inputs.profile_key,
    0
from changed_decisions
inner join identity.steward_decision_records
    on changed_decisions.decision_id = steward_decision_records.decision_id
inner join staging.identity_inputs
    on steward_decision_records.record_key = identity_inputs.record_key;

insert into touched_customers (global_customer_id, step)
select distinct
    customer_identity_map.global_customer_id,
    0
from staging.identity_inputs
inner join identity.customer_identity_map
    on identity_inputs.record_key = customer_identity_map.record_key
where identity_inputs.run_id > %(input_mark)s;
analyze touched_profiles;
