-- One row: how much of what stewards have said is in force, and how much they have said; null where nobody has said a thing.
with acts as (
    select
        decisions.withdrawn_at,
        decisions.valid_until
    from identity.steward_match_decisions as decisions
    union all
    select
        overrides.withdrawn_at,
        overrides.valid_until
    from gold.customer_steward_overrides as overrides
    union all
    select
        acknowledgements.withdrawn_at,
        acknowledgements.valid_until
    from gold.steward_acknowledgements as acknowledgements
)

select
    nullif(
        concat_ws(
            ' of ',
            count(*) filter (
                where
                acts.withdrawn_at is null
                and (acts.valid_until is null or acts.valid_until > now())
            ),
            count(*)
        ),
        '0 of 0'
    ) as acts
from acts
