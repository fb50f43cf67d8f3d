-- One row per record that changed since the mark.
create temp table changed_inputs on commit drop as
select
    identity_inputs.record_key,
    identity_inputs.profile_key,
    identity_inputs.is_deleted,
    identity_inputs.source_number
from staging.identity_inputs
where identity_inputs.run_id > %(input_mark)s;
create index on changed_inputs (record_key);
analyze changed_inputs;

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

-- A pair with a new profile touches the other side only if it merges: the new
-- one is touched as a changed record. A pair of known profiles that was weighed
-- anew may change what holds together on both sides.
create temp table weighed_pairs on commit drop as
with newborn as (
    select match_profiles.profile_key
    from staging.match_profiles
    where match_profiles.run_id > %(profile_mark)s
)

select
    candidates.left_profile_key,
    candidates.right_profile_key,
    decided.is_merging
from staging.compared_pairs as candidates
cross join
    lateral (
        select
            candidates.match_decision = 'AUTO_MERGE'
            or (%(merge_flagged)s and candidates.match_decision = 'FLAG_REVIEW') as is_merging
    ) as decided
where
    candidates.run_id > %(mark)s
    and (
        decided.is_merging
        or (
            candidates.left_profile_key not in (select newborn.profile_key from newborn)
            and candidates.right_profile_key not in (select newborn.profile_key from newborn)
        )
    );

analyze weighed_pairs;

-- What does not merge counts between groups of one connected component only:
-- inside a customer, or between customers that a refused link, or a decision of
-- a steward, has kept apart.
create temp table changed_pairs on commit drop as
with not_merging as materialized (
    select
        weighed_pairs.left_profile_key,
        weighed_pairs.right_profile_key,
        left_side.global_customer_id as left_customer_id,
        right_side.global_customer_id as right_customer_id
    from weighed_pairs
    inner join identity.memberships as left_side
        on weighed_pairs.left_profile_key = left_side.profile_key
    inner join identity.memberships as right_side
        on weighed_pairs.right_profile_key = right_side.profile_key
    where not weighed_pairs.is_merging
),

kept_apart as materialized (
    select memberships.global_customer_id
    from identity.refused_links
    cross join
        unnest(
            array[refused_links.left_profile_key, refused_links.right_profile_key]
        ) as side (profile_key)
    inner join identity.memberships
        on side.profile_key = memberships.profile_key
    where exists (select 1 from not_merging)
    union
    select memberships.global_customer_id
    from identity.active_steward_decisions as active
    inner join identity.memberships
        on active.record_key = memberships.record_key
)

select
    weighed_pairs.left_profile_key,
    weighed_pairs.right_profile_key
from weighed_pairs
where weighed_pairs.is_merging
union all
select
    not_merging.left_profile_key,
    not_merging.right_profile_key
from not_merging
where
    not_merging.left_customer_id = not_merging.right_customer_id
    or (
        not_merging.left_customer_id in (
            select kept_apart.global_customer_id from kept_apart
        )
        and not_merging.right_customer_id in (
            select kept_apart.global_customer_id from kept_apart
        )
    );

insert into touched_profiles (profile_key, step)
select
    changed_inputs.profile_key,
    0
from changed_inputs
union
select
    changed_pairs.left_profile_key,
    0
from changed_pairs
union
select
    changed_pairs.right_profile_key,
    0
from changed_pairs
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
    memberships.global_customer_id,
    0
from changed_inputs
inner join identity.memberships
    on changed_inputs.record_key = memberships.record_key;
analyze touched_profiles;
analyze touched_customers;
