-- What a steward says over psql: decisions about records, and values that override the machine's.

create table if not exists gold.customer_steward_overrides (
    -- One number space with the decisions: gold.steward_withdraw takes either.
    override_id bigint primary key
    default nextval('identity.steward_match_decisions_decision_id_seq'),
    global_customer_id uuid not null
    references identity.customers (global_customer_id),
    attribute gold.canonical_attribute not null,
    value text not null,
    steward text not null check (steward <> ''),
    reason text not null check (reason <> ''),
    made_at timestamptz not null default now(),
    valid_until timestamptz,
    withdrawn_at timestamptz,
    withdrawn_by text,
    withdrawn_reason text,
    applied_run_id integer,
    retired_run_id integer,
    check ((withdrawn_at is null) = (withdrawn_by is null)),
    check (retired_run_id >= applied_run_id)
);
comment on table gold.customer_steward_overrides is
'One row per value a steward has set; added and withdrawn, never edited. It belongs to the customer id it was made for, goes with it into whatever it is merged, and comes back with it when it is split off again';
comment on column gold.customer_steward_overrides.applied_run_id is
'The run whose phase 9B brought it into gold; null: waits for the next run';
comment on column gold.customer_steward_overrides.retired_run_id is
'The run whose phase 9B took it out again, withdrawn or expired';
create index if not exists customer_steward_overrides_standing
on gold.customer_steward_overrides (global_customer_id) where retired_run_id is null;

-- One row per override that golden records follow now, with the customer it counts for.
create or replace view gold.standing_overrides as
select
    overrides.override_id,
    followed.global_customer_id,
    overrides.attribute,
    overrides.value,
    overrides.steward,
    overrides.reason,
    overrides.made_at,
    overrides.valid_until,
    row_number() over (
        partition by followed.global_customer_id, overrides.attribute
        order by overrides.made_at desc, overrides.override_id desc
    ) = 1 as is_winner
from gold.customer_steward_overrides as overrides
cross join lateral (
    select identity.current_customer_id(overrides.global_customer_id) as global_customer_id
) as followed
where overrides.applied_run_id is not null and overrides.retired_run_id is null;
comment on view gold.standing_overrides is
'One row per applied override and the customer it counts for now; of two on one attribute after a merge the newer wins';
