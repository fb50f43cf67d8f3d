-- One row per record of a decision of a steward that is active now: stewards go on meanwhile, and what they say from
-- here on is for the next resolution.
create temp table heeded_decisions on commit drop as
select
    active.decision_id,
    active.judgement,
    active.record_key,
    active.side
from identity.active_steward_decisions as active;

analyze heeded_decisions;
