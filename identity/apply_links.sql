-- One row per edge of the graph: bring in the pairs compared since the mark.
-- Edges of profiles that died, and of pairs now rejected, go; removed_links
-- keeps them, for what they held together or apart.
create temp table removed_links on commit drop as
with dead_profiles as materialized (
    select match_profiles.profile_key
    from staging.match_profiles
    where
        match_profiles.run_id > %(profile_mark)s
        and match_profiles.record_count = 0
),

gone as (
    select
        match_links.left_profile_key,
        match_links.right_profile_key
    from dead_profiles
    inner join identity.match_links
        on dead_profiles.profile_key = match_links.left_profile_key
    union
    select
        match_links.left_profile_key,
        match_links.right_profile_key
    from dead_profiles
    inner join identity.match_links
        on dead_profiles.profile_key = match_links.right_profile_key
    union
    select
        match_links.left_profile_key,
        match_links.right_profile_key
    from staging.identity_match_candidates as candidates
    inner join identity.match_links
        on
            candidates.left_profile_key = match_links.left_profile_key
            and candidates.right_profile_key = match_links.right_profile_key
    where
        candidates.run_id > %(mark)s
        and candidates.match_decision = 'REJECT'
),

removed as (
    delete from identity.match_links
    using gone
    where
        match_links.left_profile_key = gone.left_profile_key
        and match_links.right_profile_key = gone.right_profile_key
    returning match_links.left_profile_key, match_links.right_profile_key
)

select
    removed.left_profile_key,
    removed.right_profile_key
from removed;

insert into identity.match_links as known (
    left_profile_key,
    right_profile_key,
    status,
    match_decision,
    match_weight,
    total_confidence_score,
    run_id
)
select
    candidates.left_profile_key,
    candidates.right_profile_key,
    case
        when candidates.match_decision = 'AUTO_MERGE' or %(merge_flagged)s
            then 'standing'
        else 'waiting'
    end::identity.link_status as status,
    candidates.match_decision,
    candidates.match_weight,
    candidates.total_confidence_score,
    %(run_id)s as run_id
from staging.identity_match_candidates as candidates
where
    candidates.run_id > %(mark)s
    and candidates.match_decision in ('AUTO_MERGE', 'FLAG_REVIEW')
    and candidates.left_profile_key < candidates.right_profile_key
order by candidates.left_profile_key, candidates.right_profile_key
on conflict (left_profile_key, right_profile_key) do update
    set
        status = excluded.status,
        refused_reason = null,
        match_decision = excluded.match_decision,
        match_weight = excluded.match_weight,
        total_confidence_score = excluded.total_confidence_score,
        run_id = excluded.run_id
    where
    (known.match_decision, known.match_weight)
    is distinct from (excluded.match_decision, excluded.match_weight);
