-- One row per decision of a steward and profile of its records: whether it is active, and whether that has changed
-- since the last resolution.
with decisions as (
    select
        known.decision_id,
        bool_or(known.is_active) as is_active,
        bool_or(known.is_active) <> bool_or(known.is_applied) as is_changed
    from (
        select
            heeded_decisions.decision_id,
            true as is_active,
            false as is_applied
        from heeded_decisions
        union all
        select
            applied_decisions.decision_id,
            false as is_active,
            true as is_applied
        from identity.applied_decisions
    ) as known
    group by known.decision_id
)

select distinct
    decisions.decision_id,
    inputs.profile_key,
    decisions.is_active,
    decisions.is_changed
from decisions
inner join identity.steward_decision_records as records
    on decisions.decision_id = records.decision_id
inner join staging.identity_inputs as inputs
    on records.record_key = inputs.record_key
