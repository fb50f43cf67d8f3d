-- Who is who: the registry of ids, the map from records to them, and how they came and went.

do $types$
begin
    if to_regtype('identity.match_decision') is null then
        create type identity.match_decision as enum (
            'AUTO_MERGE', 'FLAG_REVIEW', 'REJECT'
        );
    end if;
    if to_regtype('identity.link_status') is null then
        create type identity.link_status as enum (
            'standing', 'waiting', 'refused'
        );
    end if;
    if to_regtype('identity.customer_status') is null then
        create type identity.customer_status as enum ('live', 'merged', 'closed');
    end if;
    if to_regtype('identity.assignment') is null then
        create type identity.assignment as enum (
            'alone', 'same_profile', 'link', 'steward'
        );
    end if;
end
$types$;

create table if not exists identity.match_models (
    model_version integer generated always as identity primary key,
    method text not null check (method in ('defaults', 'em')),
    is_current boolean not null,
    profile_count bigint not null,
    pair_count bigint not null,
    parameters jsonb not null,
    configuration_hash text not null,
    reason text not null,
    run_id integer not null,
    trained_at timestamptz not null default now()
);
comment on table identity.match_models is
'One row per trained version of the matching model';
create unique index if not exists match_models_one_current
on identity.match_models (is_current) where is_current;

create table if not exists identity.customers (
    global_customer_id uuid primary key,
    status identity.customer_status not null,
    merged_into uuid references identity.customers (global_customer_id),
    record_count integer not null check (record_count >= 0),
    created_run_id integer not null,
    run_id integer not null,
    created_at timestamptz not null default now(),
    source_mask bigint not null default 0,
    profile_count integer,
    check ((status = 'merged') = (merged_into is not null)),
    check ((status = 'live') = (record_count > 0))
);
comment on table identity.customers is
'One row per id ever given: live, merged into another for now, or closed when its last record was withdrawn';
comment on column identity.customers.run_id is
'The run that last changed its members, or an attribute of a member';
select identity.index_run_id('identity.customers');

create table if not exists identity.memberships (
    record_key bigint not null,
    profile_key bigint,
    run_id integer not null,
    match_confidence real not null check (match_confidence between 0 and 100),
    global_customer_id uuid not null,
    home_customer_id uuid,
    assigned_by identity.assignment not null,
    source_number smallint
);
comment on table identity.memberships is
'One row per source record: the customer it belongs to; to read, see customer_identity_map';
comment on column identity.memberships.profile_key is
'The profile of the record when its customer was last resolved: the graph is followed from customers to profiles and back by this table alone';
comment on column identity.memberships.source_number is
'The source in raw.sources, so that what a customer is made of is counted by this table alone';
comment on column identity.memberships.home_customer_id is
'The id the record came with when its customer was merged, where it is another one; an un-merge gives it back';

-- The map was a table once, with a copy of what source and record are called.
do $migration$
begin
    if not identity.is_still_table('identity.customer_identity_map') then
        return;
    end if;
    insert into identity.memberships
    select
        map.record_key,
        inputs.profile_key,
        map.run_id,
        map.match_confidence,
        map.global_customer_id,
        nullif(map.home_customer_id, map.global_customer_id),
        map.assigned_by::identity.assignment,
        inputs.source_number
    from identity.customer_identity_map as map
    inner join staging.identity_inputs as inputs
        on map.record_key = inputs.record_key;
    -- Made again in 080_quality.sql.
    drop view if exists gold.steward_review_queue;
    drop table identity.customer_identity_map;
    analyze identity.memberships;
end
$migration$;

-- What a customer is made of was counted by phase 10 once, in a table of its own.
do $migration$
begin
    if exists (
        select from pg_attribute
        where attrelid = 'identity.customers'::regclass and attname = 'source_mask'
    ) then
        return;
    end if;
    alter table identity.customers
    add column source_mask bigint not null default 0,
    add column profile_count integer;
    update identity.customers
    set
        source_mask = made_of.source_mask,
        profile_count = made_of.profile_count
    from (
        select
            memberships.global_customer_id,
            coalesce(bit_or(sources.source_bit), 0) as source_mask,
            case
                when count(*) >= 20 then count(distinct memberships.profile_key)
            end as profile_count
        from identity.memberships
        left join raw.sources
            on memberships.source_number = sources.source_number
        group by memberships.global_customer_id
    ) as made_of
    where customers.global_customer_id = made_of.global_customer_id;
end
$migration$;
comment on column identity.customers.source_mask is
'The sources of its records, as a sum of raw.sources.source_bit';
comment on column identity.customers.profile_count is
'Distinct profiles among its records; counted for customers of 20 records and more';
create index if not exists customers_profile_count
on identity.customers (profile_count desc) where profile_count is not null;

-- The key, as an index that can be built beside other work.
alter table identity.memberships drop constraint if exists memberships_pkey;
create unique index if not exists memberships_key
on identity.memberships (record_key);
create index if not exists memberships_global_customer_id
on identity.memberships (global_customer_id);
create index if not exists memberships_profile_key
on identity.memberships (profile_key);
select identity.index_run_id('identity.memberships');

create or replace view identity.customer_identity_map as
select
    memberships.record_key,
    inputs.source_system,
    inputs.record_id,
    memberships.global_customer_id,
    memberships.match_confidence,
    memberships.assigned_by::text as assigned_by,
    coalesce(memberships.home_customer_id, memberships.global_customer_id) as home_customer_id,
    memberships.profile_key,
    memberships.run_id
from identity.memberships
inner join staging.identity_inputs as inputs
    on memberships.record_key = inputs.record_key;
comment on view identity.customer_identity_map is
'One row per source record: the customer it belongs to, how surely and why';
comment on column identity.customer_identity_map.home_customer_id is
'The id the record came with when its customer was merged, else that of its customer; an un-merge gives it back';
comment on column identity.customer_identity_map.match_confidence is
'0 to 100: the strongest standing link of the record inside its customer; 100 for a record alone or an identical profile';

create table if not exists identity.customer_id_lineage (
    lineage_id bigint generated always as identity primary key,
    change text not null check (change in ('merge', 'split')),
    from_customer_id uuid not null
    references identity.customers (global_customer_id),
    into_customer_id uuid not null
    references identity.customers (global_customer_id),
    record_count integer not null,
    left_record_key bigint,
    right_record_key bigint,
    decision_id bigint,
    reason text not null,
    run_id integer not null,
    changed_at timestamptz not null default now(),
    check (from_customer_id <> into_customer_id)
);
comment on table identity.customer_id_lineage is
'One row per merge (from is gone into into) or split (into has left from), by which link or decision, in which run';
create index if not exists customer_id_lineage_from
on identity.customer_id_lineage (from_customer_id);
create index if not exists customer_id_lineage_into
on identity.customer_id_lineage (into_customer_id);
create index if not exists customer_id_lineage_run_id
on identity.customer_id_lineage (run_id);

create table if not exists identity.steward_match_decisions (
    decision_id bigint generated always as identity primary key,
    judgement text not null
    check (judgement in ('same', 'different', 'split')),
    made_by text not null,
    call text not null,
    steward text not null check (steward <> ''),
    reason text not null check (reason <> ''),
    decided_at timestamptz not null default now(),
    valid_until timestamptz,
    withdrawn_at timestamptz,
    withdrawn_by text,
    withdrawn_reason text,
    check ((withdrawn_at is null) = (withdrawn_by is null))
);
comment on table identity.steward_match_decisions is
'One row per decision of a steward that records are the same person or different ones; split is both: side 1 stays together and apart from side 2. Added and withdrawn, never edited';

create table if not exists identity.steward_decision_records (
    decision_id bigint not null
    references identity.steward_match_decisions (decision_id),
    record_key bigint not null,
    side smallint not null check (side in (1, 2)),
    source_system text not null,
    record_id text not null,
    primary key (decision_id, record_key)
);
comment on table identity.steward_decision_records is
'One row per record of a decision. same: all its records belong together. different and split: no record of side 1 belongs with one of side 2';
create index if not exists steward_decision_records_record_key
on identity.steward_decision_records (record_key);

create table if not exists identity.refused_links (
    left_profile_key bigint not null,
    right_profile_key bigint not null,
    run_id integer not null,
    match_weight real not null,
    refused_reason text not null,
    primary key (left_profile_key, right_profile_key),
    check (left_profile_key < right_profile_key)
);
comment on table identity.refused_links is
'One row per pair that would merge, but that its clusters refuse, and why; all other links stand or wait: match_links';
create index if not exists refused_links_right
on identity.refused_links (right_profile_key);
create index if not exists refused_links_match_weight
on identity.refused_links (match_weight desc);

create table if not exists identity.applied_decisions (
    decision_id bigint primary key
    references identity.steward_match_decisions (decision_id)
);
comment on table identity.applied_decisions is
'One row per steward decision that the last identity resolution took into account';

drop function if exists identity.founded_customer_id(bigint, integer);

create or replace function identity.current_customer_id(any_customer_id uuid)
returns uuid
language sql stable strict parallel safe
as $function$
    with recursive trail as (
        select
            customers.global_customer_id,
            customers.merged_into
        from identity.customers
        where customers.global_customer_id = any_customer_id
        union all
        select
            customers.global_customer_id,
            customers.merged_into
        from trail
        inner join identity.customers
            on trail.merged_into = customers.global_customer_id
    )

    select trail.global_customer_id
    from trail
    where trail.merged_into is null
$function$;
comment on function identity.current_customer_id is
'The id that now stands for any id that ever existed; null for an unknown one';
