-- From clusters of records to global_customer_ids that stay.
-- Takes the temp table resolved_records (record_key, cluster, match_confidence,
-- assigned_by). Every record of every customer in it is in it, so that a
-- cluster is a whole customer.

-- One row per resolved record, with the customer it was in and its first one.
create temp table record_moves on commit drop as
select
    resolved_records.record_key,
    resolved_records.cluster,
    resolved_records.match_confidence,
    resolved_records.assigned_by,
    identity_inputs.source_system,
    identity_inputs.record_id,
    customer_identity_map.global_customer_id as old_customer_id,
    customer_identity_map.home_customer_id
from resolved_records
inner join staging.identity_inputs
    on resolved_records.record_key = identity_inputs.record_key
left join identity.customer_identity_map
    on resolved_records.record_key = customer_identity_map.record_key;
analyze record_moves;

-- One row per cluster.
create temp table clusters on commit drop as
select
    record_moves.cluster,
    count(*) as record_count,
    min(record_moves.record_key) as first_record_key
from record_moves
group by record_moves.cluster;
analyze clusters;

-- One row per id there was: the cluster that most of its records are in, which
-- keeps it. Records first given the id count before those it got by a merge, so
-- that an un-merge leaves each its own; ties go to the smallest record.
create temp table kept_ids on commit drop as
select distinct on (shares.old_customer_id)
    shares.old_customer_id as global_customer_id,
    shares.cluster
from (
    select
        record_moves.old_customer_id,
        record_moves.cluster,
        count(*) filter (
            where record_moves.home_customer_id = record_moves.old_customer_id
        ) as home_record_count,
        count(*) as record_count,
        min(record_moves.record_key) as first_record_key
    from record_moves
    where record_moves.old_customer_id is not null
    group by record_moves.old_customer_id, record_moves.cluster
) as shares
order by
    shares.old_customer_id,
    shares.home_record_count desc,
    shares.record_count desc,
    shares.first_record_key;
analyze kept_ids;

-- One row per cluster that had an id: of several, the one with most records
-- survives, then the oldest, then the smallest.
create temp table cluster_ids on commit drop as
select distinct on (kept_ids.cluster)
    kept_ids.cluster,
    kept_ids.global_customer_id,
    false as is_opened
from kept_ids
inner join identity.customers
    on kept_ids.global_customer_id = customers.global_customer_id
order by
    kept_ids.cluster,
    customers.record_count desc,
    customers.created_run_id,
    customers.global_customer_id;
create index on cluster_ids (global_customer_id);
analyze cluster_ids;

-- An un-merge: a cluster left without an id takes back the one most of its
-- records came with, if nobody lives under it.
insert into cluster_ids (cluster, global_customer_id, is_opened)
select distinct on (claims.home_customer_id)
    claims.cluster,
    claims.home_customer_id,
    true
from (
    select distinct on (record_moves.cluster)
        record_moves.cluster,
        record_moves.home_customer_id,
        count(*) as record_count
    from record_moves
    inner join identity.customers
        on record_moves.home_customer_id = customers.global_customer_id
    where
        customers.status <> 'live'
        and not exists (
            select 1
            from cluster_ids
            where cluster_ids.cluster = record_moves.cluster
        )
    group by record_moves.cluster, record_moves.home_customer_id
    order by
        record_moves.cluster, count(*) desc, record_moves.home_customer_id
) as claims
order by
    claims.home_customer_id, claims.record_count desc, claims.cluster;

-- The rest are founded by their smallest record, under the first of its ids
-- that nobody lives under; mostly the very first.
create temp table founders on commit drop as
select
    clusters.cluster,
    clusters.first_record_key as record_key,
    identity.founded_customer_id(clusters.first_record_key, 0) as first_id
from clusters
where not exists (
    select 1
    from cluster_ids
    where cluster_ids.cluster = clusters.cluster
);
analyze founders;

insert into cluster_ids (cluster, global_customer_id, is_opened)
with taken_ids as materialized (
    select cluster_ids.global_customer_id
    from cluster_ids
    union all
    select customers.global_customer_id
    from identity.customers
    inner join founders on customers.global_customer_id = founders.first_id
    where customers.status = 'live'
)

select
    founders.cluster,
    founders.first_id,
    true
from founders
left join taken_ids on founders.first_id = taken_ids.global_customer_id
where taken_ids.global_customer_id is null;
analyze cluster_ids;

insert into cluster_ids (cluster, global_customer_id, is_opened)
with open_founders as materialized (
    select
        founders.cluster,
        founders.record_key
    from founders
    left join cluster_ids on founders.cluster = cluster_ids.cluster
    where cluster_ids.cluster is null
)

select
    open_founders.cluster,
    founded.global_customer_id,
    true
from open_founders
cross join
    lateral (
        select ids.global_customer_id
        from generate_series(1, 1000) as attempts (attempt)
        cross join
            lateral (
                select
                    identity.founded_customer_id(
                        open_founders.record_key, attempts.attempt
                    ) as global_customer_id
            ) as ids
        where
            not exists (
                select 1
                from identity.customers
                where
                    customers.global_customer_id = ids.global_customer_id
                    and customers.status = 'live'
            )
            and not exists (
                select 1
                from cluster_ids
                where cluster_ids.global_customer_id = ids.global_customer_id
            )
        order by attempts.attempt
        limit 1
    ) as founded;
analyze cluster_ids;

-- One row per customer whose members changed, or an attribute of a member.
create temp table changed_customers on commit drop as
with moved as (
    select distinct
        cluster_ids.global_customer_id,
        record_moves.old_customer_id
    from record_moves
    inner join cluster_ids on record_moves.cluster = cluster_ids.cluster
    where
        record_moves.old_customer_id
        is distinct from cluster_ids.global_customer_id
),

changed_inputs as (
    select
        identity_inputs.record_key,
        identity_inputs.is_deleted
    from staging.identity_inputs
    where identity_inputs.run_id > %(input_mark)s
)

select moved.global_customer_id
from moved
union
select moved.old_customer_id
from moved
where moved.old_customer_id is not null
union
select record_moves.old_customer_id
from changed_inputs
inner join record_moves on changed_inputs.record_key = record_moves.record_key
where record_moves.old_customer_id is not null
union
select customer_identity_map.global_customer_id
from changed_inputs
inner join identity.customer_identity_map
    on changed_inputs.record_key = customer_identity_map.record_key
where changed_inputs.is_deleted;
analyze changed_customers;

-- Records withdrawn at their source leave.
delete from identity.customer_identity_map
using staging.identity_inputs
where
    customer_identity_map.record_key = identity_inputs.record_key
    and identity_inputs.is_deleted
    and identity_inputs.run_id > %(input_mark)s;

insert into identity.customer_identity_map as known (
    record_key,
    run_id,
    match_confidence,
    global_customer_id,
    home_customer_id,
    assigned_by,
    source_system,
    record_id
)
select
    record_moves.record_key,
    %(run_id)s,
    record_moves.match_confidence,
    cluster_ids.global_customer_id,
    coalesce(record_moves.home_customer_id, cluster_ids.global_customer_id),
    record_moves.assigned_by,
    record_moves.source_system,
    record_moves.record_id
from record_moves
inner join cluster_ids on record_moves.cluster = cluster_ids.cluster
order by record_moves.record_key
on conflict (record_key) do update
    set
        run_id = excluded.run_id,
        match_confidence = excluded.match_confidence,
        global_customer_id = excluded.global_customer_id,
        assigned_by = excluded.assigned_by
    where
    (known.global_customer_id, known.match_confidence, known.assigned_by)
    is distinct from (
        excluded.global_customer_id,
        excluded.match_confidence,
        excluded.assigned_by
    );

insert into identity.customers as known (
    global_customer_id,
    status,
    merged_into,
    record_count,
    created_run_id,
    run_id
)
select
    changed_customers.global_customer_id,
    case
        when clusters.record_count > 0 then 'live'
        when kept_by.global_customer_id is not null then 'merged'
        else 'closed'
    end,
    case
        when clusters.record_count is null then kept_by.global_customer_id
    end,
    coalesce(clusters.record_count, 0),
    %(run_id)s as created_run_id,
    %(run_id)s as run_id
from changed_customers
left join cluster_ids
    on changed_customers.global_customer_id = cluster_ids.global_customer_id
left join clusters on cluster_ids.cluster = clusters.cluster
left join kept_ids
    on changed_customers.global_customer_id = kept_ids.global_customer_id
left join cluster_ids as kept_by on kept_ids.cluster = kept_by.cluster
on conflict (global_customer_id) do update
    set
        status = excluded.status,
        merged_into = excluded.merged_into,
        record_count = excluded.record_count,
        run_id = excluded.run_id;

-- One row per id of which no record is left: merged into the id of the cluster
-- that most of its records are in.
create temp table merged_ids on commit drop as
select
    kept_ids.global_customer_id,
    kept_ids.cluster,
    cluster_ids.global_customer_id as into_customer_id
from kept_ids
inner join cluster_ids on kept_ids.cluster = cluster_ids.cluster
where kept_ids.global_customer_id <> cluster_ids.global_customer_id;
analyze merged_ids;

-- One row per profile, cluster and former customer, where customers merged.
create temp table merge_members on commit drop as
select
    identity_inputs.profile_key,
    record_moves.cluster,
    record_moves.old_customer_id,
    min(record_moves.record_key) as record_key,
    count(*) as record_count
from record_moves
inner join staging.identity_inputs
    on record_moves.record_key = identity_inputs.record_key
where
    record_moves.cluster in (
        select merged_ids.cluster
        from merged_ids
    )
group by
    identity_inputs.profile_key,
    record_moves.cluster,
    record_moves.old_customer_id;
analyze merge_members;

-- One row per merge, with the decision or the strongest link behind it.
insert into identity.customer_id_lineage (
    change,
    from_customer_id,
    into_customer_id,
    record_count,
    left_record_key,
    right_record_key,
    decision_id,
    reason,
    run_id
)
with link_bonds as (
    select
        left_side.cluster,
        left_side.old_customer_id as left_customer_id,
        right_side.old_customer_id as right_customer_id,
        left_side.record_key as left_record_key,
        right_side.record_key as right_record_key,
        null::bigint as decision_id,
        match_links.match_weight as strength
    from merge_members as left_side
    inner join identity.match_links
        on
            left_side.profile_key = match_links.left_profile_key
            and match_links.status = 'standing'
    inner join merge_members as right_side
        on
            match_links.right_profile_key = right_side.profile_key
            and left_side.cluster = right_side.cluster
    where left_side.old_customer_id is distinct from right_side.old_customer_id
),

decision_bonds as (
    select
        left_side.cluster,
        left_side.old_customer_id as left_customer_id,
        right_side.old_customer_id as right_customer_id,
        left_side.record_key as left_record_key,
        right_side.record_key as right_record_key,
        left_decision.decision_id,
        1000 as strength
    from identity.active_steward_decisions as left_decision
    inner join identity.active_steward_decisions as right_decision
        on
            left_decision.decision_id = right_decision.decision_id
            and left_decision.judgement = 'same'
            and left_decision.record_key < right_decision.record_key
    inner join record_moves as left_side
        on left_decision.record_key = left_side.record_key
    inner join record_moves as right_side
        on
            right_decision.record_key = right_side.record_key
            and left_side.cluster = right_side.cluster
    where left_side.old_customer_id is distinct from right_side.old_customer_id
),

bonds as (
    select * from link_bonds
    union all
    select * from decision_bonds
),

strongest_bonds as (
    select distinct on (merged_ids.global_customer_id)
        merged_ids.global_customer_id,
        bonds.left_record_key,
        bonds.right_record_key,
        bonds.decision_id,
        bonds.strength
    from merged_ids
    inner join bonds
        on
            merged_ids.cluster = bonds.cluster
            and (
                merged_ids.global_customer_id = bonds.left_customer_id
                or merged_ids.global_customer_id = bonds.right_customer_id
            )
    order by
        merged_ids.global_customer_id,
        bonds.strength desc,
        bonds.left_record_key,
        bonds.right_record_key
),

moved_counts as (
    select
        merge_members.old_customer_id,
        merge_members.cluster,
        sum(merge_members.record_count)::integer as record_count
    from merge_members
    group by merge_members.old_customer_id, merge_members.cluster
)

select
    'merge',
    merged_ids.global_customer_id,
    merged_ids.into_customer_id,
    moved_counts.record_count,
    strongest_bonds.left_record_key,
    strongest_bonds.right_record_key,
    strongest_bonds.decision_id,
    case
        when strongest_bonds.decision_id is not null
            then 'decision of a steward'
        when strongest_bonds.strength is not null
            then
                'link of weight '
                || round(strongest_bonds.strength::numeric, 1)
        else 'joined through other records'
    end,
    %(run_id)s
from merged_ids
inner join moved_counts
    on
        merged_ids.global_customer_id = moved_counts.old_customer_id
        and merged_ids.cluster = moved_counts.cluster
left join strongest_bonds
    on merged_ids.global_customer_id = strongest_bonds.global_customer_id;

-- One row per split: records that left an id for one opened for them.
insert into identity.customer_id_lineage (
    change,
    from_customer_id,
    into_customer_id,
    record_count,
    reason,
    run_id
)
select
    'split',
    record_moves.old_customer_id,
    cluster_ids.global_customer_id,
    count(*),
    'no longer held together',
    %(run_id)s
from record_moves
inner join cluster_ids on record_moves.cluster = cluster_ids.cluster
where
    cluster_ids.is_opened
    and record_moves.old_customer_id <> cluster_ids.global_customer_id
group by record_moves.old_customer_id, cluster_ids.global_customer_id;

-- The decisions this resolution took into account.
insert into identity.applied_decisions (decision_id)
select distinct active.decision_id
from identity.active_steward_decisions as active
on conflict do nothing;
delete from identity.applied_decisions
where not exists (
    select 1
    from identity.active_steward_decisions as active
    where active.decision_id = applied_decisions.decision_id
);
