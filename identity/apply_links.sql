-- One row per edge of the graph: bring in the pairs compared since the mark.
-- Edges of profiles that died, and pairs now rejected, go.
delete from identity.match_links
using staging.match_profiles
where
    match_profiles.run_id > %(profile_mark)s
    and match_profiles.record_count = 0
    and match_profiles.profile_key in (
        match_links.left_profile_key, match_links.right_profile_key
    );

delete from identity.match_links
using staging.identity_match_candidates as candidates
where
    candidates.run_id > %(mark)s
    and candidates.match_decision = 'REJECT'
    and match_links.left_profile_key = candidates.left_profile_key
    and match_links.right_profile_key = candidates.right_profile_key;

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
inner join staging.match_profiles as left_side
    on candidates.left_profile_key = left_side.profile_key
inner join staging.match_profiles as right_side
    on candidates.right_profile_key = right_side.profile_key
where
    candidates.run_id > %(mark)s
    and candidates.match_decision in ('AUTO_MERGE', 'FLAG_REVIEW')
    and candidates.left_profile_key < candidates.right_profile_key
    and left_side.record_count > 0
    and right_side.record_count > 0
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
