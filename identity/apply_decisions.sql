-- One row per steward decision that this resolution took into account.
insert into identity.applied_decisions (decision_id)
select distinct active.decision_id
from heeded_decisions as active
on conflict do nothing;
delete from identity.applied_decisions
where not exists (
    select 1
    from heeded_decisions as active
    where active.decision_id = applied_decisions.decision_id
);
