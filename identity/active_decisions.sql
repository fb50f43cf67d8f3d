-- One row per record of a decision of a steward that this resolution heeds.
select
    active.decision_id,
    active.judgement,
    active.record_key,
    active.side
from heeded_decisions as active
