-- One row per record of an active decision of a steward.
select
    active.decision_id,
    active.judgement,
    active.record_key,
    active.side
from identity.active_steward_decisions as active
