-- Which of the touched links are refused, written where it changed. Takes the temp table changed_refusals, and the
-- touched profiles on the left of a link that was refused.
create index on changed_refusals (left_profile_key, right_profile_key);

delete from identity.refused_links as known
using unnest(%(formerly_refused)s::bigint[]) as touched (profile_key)
where
    touched.profile_key = known.left_profile_key
    and not exists (
        select 1
        from changed_refusals
        where
            known.left_profile_key = changed_refusals.left_profile_key
            and known.right_profile_key = changed_refusals.right_profile_key
    );

insert into identity.refused_links as known (
    left_profile_key, right_profile_key, run_id, match_weight, refused_reason
)
select
    changed_refusals.left_profile_key,
    changed_refusals.right_profile_key,
    changed_refusals.run_id,
    changed_refusals.match_weight,
    changed_refusals.refused_reason
from changed_refusals
order by changed_refusals.left_profile_key, changed_refusals.right_profile_key
on conflict (left_profile_key, right_profile_key) do update
    set
        match_weight = excluded.match_weight,
        refused_reason = excluded.refused_reason,
        run_id = excluded.run_id
    where
    (known.refused_reason, known.match_weight)
    is distinct from (excluded.refused_reason, excluded.match_weight);
