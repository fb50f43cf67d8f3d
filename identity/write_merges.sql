-- One row per merge, with the decision or the strongest link behind it.
-- Takes the temp tables merged_ids (global_customer_id, cluster, into_customer_id) and record_moves (record_key,
-- profile_key, cluster, old_customer_id), the records of the clusters in which customers merged.

-- One row per profile, cluster and former customer, where customers merged.
create temp table merge_members on commit drop as
select
    record_moves.profile_key,
    record_moves.cluster,
    record_moves.old_customer_id,
    min(record_moves.record_key) as record_key,
    count(*) as record_count
from record_moves
group by
    record_moves.profile_key,
    record_moves.cluster,
    record_moves.old_customer_id;
analyze merge_members;

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
