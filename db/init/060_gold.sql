-- Golden customers, the values behind them, their history and their events.

do $types$
begin
    if to_regtype('gold.canonical_attribute') is null then
        create type gold.canonical_attribute as enum (
            'name', 'email', 'phone', 'birth_date', 'national_id',
            'address', 'city', 'postal_code'
        );
    end if;
    -- The first six are the strategies, in this order.
    if to_regtype('gold.golden_rule') is null then
        create type gold.golden_rule as enum (
            'priority', 'most_frequent', 'most_recent', 'most_complete',
            'longest', 'oldest',
            'only_value', 'tie_break', 'steward_override'
        );
    end if;
    if to_regtype('gold.change_type') is null then
        create type gold.change_type as enum (
            'INSERT', 'SPLIT', 'UPDATE', 'MERGE', 'DELETE', 'ERASE'
        );
    end if;
end
$types$;

create table if not exists gold.dim_customers (
    global_customer_id uuid primary key,
    run_id integer not null,
    record_count integer not null check (record_count > 0),
    source_count integer not null check (source_count > 0),
    canonical_birth_date date,
    created_at timestamptz not null,
    updated_at timestamptz not null,
    canonical_name text,
    canonical_email text,
    canonical_phone text,
    canonical_address text,
    canonical_city text,
    canonical_postal_code text,
    canonical_national_id text
);
comment on table gold.dim_customers is 'One row per customer: the golden record';
comment on column gold.dim_customers.created_at is
'When the id was first given; a customer who returns keeps it';
comment on column gold.dim_customers.updated_at is
'When a column of the row last changed; the valid_from of its current version';
select identity.index_run_id('gold.dim_customers');

-- Survivorship ---------------------------------------------------------------

create table if not exists gold.survivorship_strategies (
    strategy gold.golden_rule primary key
    check (strategy <= 'oldest'::gold.golden_rule),
    prefers text not null
);
comment on table gold.survivorship_strategies is
'One row per strategy that survivorship_rules can name, and what it prefers';
insert into gold.survivorship_strategies (strategy, prefers) values
('priority', 'the value from the source that stands first in source_order'),
('most_frequent', 'the value said by most records'),
('most_recent', 'the value seen last'),
(
    'most_complete', 'the value from the record with most attributes filled; '
    || 'for an address, the one with most parts filled'
),
('longest', 'the value with most characters'),
('oldest', 'the value seen first')
on conflict (strategy) do update set prefers = excluded.prefers;

create table if not exists gold.survivorship_rules (
    attribute gold.canonical_attribute not null,
    step smallint not null check (step between 1 and 6),
    strategy gold.golden_rule not null
    references gold.survivorship_strategies (strategy),
    source_order text[],
    primary key (attribute, step),
    unique (attribute, strategy),
    constraint city_and_postal_code_survive_with_the_address
    check (attribute not in ('city', 'postal_code')),
    constraint priority_and_only_priority_has_a_source_order
    check ((strategy = 'priority') = (source_order is not null)),
    constraint source_order_names_a_source
    check (cardinality(source_order) > 0)
);
comment on table gold.survivorship_rules is
'One row per attribute and step of its chain: step 1 decides, the next ones break its ties, the last tie goes to the value that sorts first. address decides for address, city and postal_code together, from one record';

-- What changes over a life, email and phone: the latest word reaches the
-- customer. What does not, birth date and national id: the majority, so one typo
-- is outvoted. A name: the majority too, then the fuller spelling over initials.
-- An address: the fullest, so an order with a bare postal code does not wipe out
-- the street; among those the latest, as people move.
insert into gold.survivorship_rules (attribute, step, strategy)
select
    defaults.attribute::gold.canonical_attribute,
    defaults.step,
    defaults.strategy::gold.golden_rule
from (
    values
    ('name', 1, 'most_frequent'),
    ('name', 2, 'longest'),
    ('name', 3, 'most_recent'),
    ('email', 1, 'most_recent'),
    ('email', 2, 'most_frequent'),
    ('phone', 1, 'most_recent'),
    ('phone', 2, 'most_frequent'),
    ('birth_date', 1, 'most_frequent'),
    ('birth_date', 2, 'most_recent'),
    ('national_id', 1, 'most_frequent'),
    ('national_id', 2, 'most_recent'),
    ('address', 1, 'most_complete'),
    ('address', 2, 'most_recent'),
    ('address', 3, 'most_frequent')
) as defaults (attribute, step, strategy)
where not exists (select from gold.survivorship_rules);

-- A source_order that names a source twice, or one nobody has loaded, is a slip,
-- and so are lists in a list.
create or replace function gold.check_source_order()
returns trigger
language plpgsql
as $function$
declare
    stranger text;
begin
    if array_ndims(new.source_order) > 1 then
        raise exception 'source_order is a list of lists: %', new.source_order
            using hint = 'Write one list, the most trusted source first: {sales,support}.';
    end if;
    select listed.source_system into stranger
    from unnest(new.source_order) as listed (source_system)
    left join raw.sources
        on listed.source_system = sources.source_system
    where sources.source_system is null
    limit 1;
    if found then
        raise exception 'source_order names %, which is no source', coalesce(stranger, 'null')
            using hint = (
                select 'Known: ' || coalesce(string_agg(sources.source_system, ', '
                    order by sources.source_system), 'none yet; load a file first') || '.'
                from raw.sources
            );
    end if;
    if cardinality(new.source_order)
        <> (select count(distinct source) from unnest(new.source_order) as source)
    then
        raise exception 'source_order names a source twice: %', new.source_order;
    end if;
    return new;
end
$function$;
create or replace trigger survivorship_rules_source_order
before insert or update on gold.survivorship_rules
for each row execute function gold.check_source_order();

-- The values of customers are many, what is said about them often the same: that is kept once.
create table if not exists gold.value_kinds (
    kind integer primary key,
    attribute gold.canonical_attribute not null,
    rule gold.golden_rule not null,
    is_golden boolean not null,
    sources text[] not null,
    unique (attribute, rule, is_golden, sources)
);
comment on table gold.value_kinds is
'One row per combination of attribute, rule, golden or not, and sources that a value has had';

create table if not exists gold.attribute_values (
    global_customer_id uuid not null,
    record_key bigint,
    first_seen timestamptz not null,
    last_seen timestamptz,
    record_count integer not null check (record_count >= 0),
    run_id integer not null,
    kind integer not null,
    value text not null,
    check ((record_key is null) = (record_count = 0)),
    check (last_seen > first_seen)
);
comment on table gold.attribute_values is
'One row per customer, attribute and distinct value; to read, see customer_attribute_values';
comment on column gold.attribute_values.last_seen is
'Null: when it was first seen, as half of all values were';
comment on column gold.attribute_values.kind is
'A row of gold.value_kinds';

-- Each value once had all of it in its row, and the sources as an array, later as a list.
do $migration$
begin
    if not identity.is_still_table('gold.customer_attribute_values') then
        return;
    end if;
    insert into gold.value_kinds
    select
        (select count(*) from gold.value_kinds)
        + row_number() over (
            order by said.attribute, said.rule, said.is_golden, said.sources
        ) as kind,
        said.*
    from (
        select distinct
            attribute_values.attribute,
            attribute_values.rule,
            attribute_values.is_golden,
            attribute_values.sources
        from gold.customer_attribute_values as attribute_values
    ) as said
    on conflict (attribute, rule, is_golden, sources) do nothing;
    insert into gold.attribute_values
    select
        attribute_values.global_customer_id,
        attribute_values.record_key,
        attribute_values.first_seen,
        nullif(attribute_values.last_seen, attribute_values.first_seen),
        attribute_values.record_count,
        attribute_values.run_id,
        value_kinds.kind,
        attribute_values.value
    from gold.customer_attribute_values as attribute_values
    inner join gold.value_kinds using (attribute, rule, is_golden, sources);
    -- Made again in 080_quality.sql.
    drop view if exists gold.steward_review_queue;
    drop table gold.customer_attribute_values;
    analyze gold.attribute_values;
end
$migration$;
-- Many rows of a customer are one entry in this index; phase 7 rewrites a customer's rows as a whole, and so
-- keeps them unique.
create index if not exists attribute_values_global_customer_id
on gold.attribute_values (global_customer_id);

create or replace view gold.customer_attribute_values as
select
    attribute_values.global_customer_id,
    value_kinds.attribute,
    attribute_values.value,
    value_kinds.is_golden,
    value_kinds.rule,
    attribute_values.record_count,
    value_kinds.sources,
    attribute_values.first_seen,
    coalesce(attribute_values.last_seen, attribute_values.first_seen) as last_seen,
    attribute_values.record_key,
    attribute_values.run_id
from gold.attribute_values
inner join gold.value_kinds
    on attribute_values.kind = value_kinds.kind;
comment on view gold.customer_attribute_values is
'One row per customer, attribute and distinct value: who says it, how often, first and last, and why it is golden or not';
comment on column gold.customer_attribute_values.record_key is
'The latest record that says it; null for a value only a steward says';
comment on column gold.customer_attribute_values.rule is
'Golden: the strategy that told it from the runner-up. Not golden: the strategy by which it lost. only_value: nothing else was said; tie_break: all strategies equal, the value that sorts first';

-- History --------------------------------------------------------------------

create table if not exists gold.dim_customers_history (
    global_customer_id uuid not null,
    version integer not null check (version > 0),
    run_id integer not null,
    closed_run_id integer,
    record_count integer not null,
    source_count integer not null,
    canonical_birth_date date,
    valid_from timestamptz not null,
    valid_to timestamptz,
    previous_valid_to timestamptz,
    merged_into uuid,
    is_current boolean generated always as (valid_to is null) virtual,
    canonical_name text,
    canonical_email text,
    canonical_phone text,
    canonical_address text,
    canonical_city text,
    canonical_postal_code text,
    canonical_national_id text,
    primary key (global_customer_id, version),
    check (valid_from < valid_to),
    check (previous_valid_to <= valid_from),
    check ((version = 1) = (previous_valid_to is null)),
    check ((closed_run_id is null) = (valid_to is null)),
    check (merged_into is null or valid_to is not null)
);
comment on table gold.dim_customers_history is
'One row per customer and version (SCD2): what the golden record was from valid_from until valid_to';
comment on column gold.dim_customers_history.run_id is
'The run that opened the version';
comment on column gold.dim_customers_history.closed_run_id is
'The run that closed it; null for a current one';
comment on column gold.dim_customers_history.valid_to is
'The moment from which it no longer holds; null for a current one';
comment on column gold.dim_customers_history.previous_valid_to is
'valid_to of the version before. Key, checks and triggers make the versions of a customer one chain in which each begins after the end of the one before: they cannot overlap, and only the last can be open. An exclusion constraint says the same at five times the cost of loading';
-- A foreign key said it once, and wanted a second index of nearly the columns of the primary key.
alter table gold.dim_customers_history
drop constraint if exists dim_customers_history_global_customer_id_previous_version__fkey,
drop constraint if exists dim_customers_history_global_customer_id_version_valid_to_key,
drop column if exists previous_version;

create or replace function gold.check_version_follows()
returns trigger
language plpgsql
as $function$
begin
    if not exists (
        select from gold.dim_customers_history as before
        where
            before.global_customer_id = new.global_customer_id
            and before.version = new.version - 1
            and before.valid_to = new.previous_valid_to
    ) then
        raise exception 'version % of customer % does not follow on the end of version %',
            new.version, new.global_customer_id, new.version - 1
            using errcode = 'foreign_key_violation';
    end if;
    return null;
end
$function$;
create or replace trigger dim_customers_history_follows
after insert or update of global_customer_id, version, previous_valid_to
on gold.dim_customers_history
for each row when (new.version > 1)
execute function gold.check_version_follows();

create or replace function gold.check_version_is_followed()
returns trigger
language plpgsql
as $function$
begin
    if exists (
        select from gold.dim_customers_history as after
        where
            after.global_customer_id = old.global_customer_id
            and after.version = old.version + 1
            and after.previous_valid_to = old.valid_to
    ) and not exists (
        select from gold.dim_customers_history as before
        where
            before.global_customer_id = old.global_customer_id
            and before.version = old.version
            and before.valid_to = old.valid_to
    ) then
        raise exception 'version % of customer % follows on the end of version %',
            old.version + 1, old.global_customer_id, old.version
            using errcode = 'foreign_key_violation';
    end if;
    return null;
end
$function$;
create or replace trigger dim_customers_history_is_followed
after delete or update of global_customer_id, version, valid_to
on gold.dim_customers_history
for each row when (old.valid_to is not null)
execute function gold.check_version_is_followed();

comment on column gold.dim_customers_history.merged_into is
'The customer this one went into when it was closed; null when it was closed for want of records, or went on';
select identity.index_run_id('gold.dim_customers_history');
create index if not exists dim_customers_history_closed_run_id
on gold.dim_customers_history (closed_run_id) where closed_run_id is not null;

create or replace function gold.customers_as_of(moment timestamptz)
returns setof gold.dim_customers
language sql stable parallel safe
as $function$
    select
        history.global_customer_id,
        history.run_id,
        history.record_count,
        history.source_count,
        history.canonical_birth_date,
        customers.created_at,
        history.valid_from,
        history.canonical_name,
        history.canonical_email,
        history.canonical_phone,
        history.canonical_address,
        history.canonical_city,
        history.canonical_postal_code,
        history.canonical_national_id
    from gold.dim_customers_history as history
    inner join identity.customers
        on history.global_customer_id = customers.global_customer_id
    where
        history.valid_from <= moment
        and (history.valid_to is null or history.valid_to > moment)
$function$;
comment on function gold.customers_as_of is
'dim_customers as it was at a moment';

-- Events ---------------------------------------------------------------------

create table if not exists gold.customer_changes (
    event_seq bigint primary key,
    occurred_at timestamptz not null,
    global_customer_id uuid not null,
    related_customer_id uuid,
    run_id integer not null,
    change_type gold.change_type not null,
    old_version integer,
    new_version integer,
    changed_attributes text[],
    check (change_type in ('MERGE', 'SPLIT') or related_customer_id is null),
    check ((new_version is null) = (change_type in ('MERGE', 'DELETE', 'ERASE')))
);
comment on table gold.customer_changes is
'One row per event: which version of the golden record it took leave of, and which it brought. Versions do not change, so they are not kept twice; to read, see customer_change_events';
create index if not exists customer_changes_customer
on gold.customer_changes (global_customer_id);
-- It had the number of the event once, though a customer has few.
drop index if exists gold.customer_changes_global_customer_id;

-- The events once held a copy of both versions.
do $migration$
begin
    if not identity.is_still_table('gold.customer_change_events') then
        return;
    end if;
    insert into gold.customer_changes (
        event_seq, occurred_at, global_customer_id, related_customer_id, run_id,
        change_type, old_version, new_version, changed_attributes
    )
    select
        events.event_seq,
        events.occurred_at,
        events.global_customer_id,
        events.related_customer_id,
        events.run_id,
        events.change_type,
        lag(history.version) over (
            partition by events.global_customer_id order by events.event_seq
        ),
        history.version,
        events.changed_attributes
    from gold.customer_change_events as events
    left join gold.dim_customers_history as history
        on
            events.change_type in ('INSERT', 'SPLIT', 'UPDATE')
            and events.global_customer_id = history.global_customer_id
            and events.occurred_at = history.valid_from
    order by events.event_seq;
    drop function if exists gold.read_events(text, integer);
    drop table gold.customer_change_events;
    analyze gold.customer_changes;
end
$migration$;

-- A version as the events give it: what the event's own columns do not say; absent means null.
create or replace function gold.version_as_json(
    version gold.dim_customers_history, created_at timestamptz
)
returns jsonb
language sql stable parallel safe
return json_object(
    'run_id': (version).run_id,
    'created_at': created_at,
    'record_count': (version).record_count,
    'source_count': (version).source_count,
    'canonical_name': (version).canonical_name,
    'canonical_email': (version).canonical_email,
    'canonical_phone': (version).canonical_phone,
    'canonical_birth_date': (version).canonical_birth_date,
    'canonical_national_id': (version).canonical_national_id,
    'canonical_address': (version).canonical_address,
    'canonical_city': (version).canonical_city,
    'canonical_postal_code': (version).canonical_postal_code
    absent on null
    returning jsonb
);

create or replace view gold.customer_change_events as
select
    changes.event_seq,
    changes.occurred_at,
    changes.run_id,
    changes.change_type,
    changes.global_customer_id,
    changes.related_customer_id,
    changes.changed_attributes,
    case
        when changes.old_version is not null
            then gold.version_as_json(old_versions, customers.created_at)
    end as old_record,
    case
        when changes.new_version is not null
            then gold.version_as_json(new_versions, customers.created_at)
    end as new_record
from gold.customer_changes as changes
left join identity.customers
    on changes.global_customer_id = customers.global_customer_id
left join gold.dim_customers_history as old_versions
    on
        changes.global_customer_id = old_versions.global_customer_id
        and changes.old_version = old_versions.version
left join gold.dim_customers_history as new_versions
    on
        changes.global_customer_id = new_versions.global_customer_id
        and changes.new_version = new_versions.version;
comment on view gold.customer_change_events is
'One row per change of a golden record, in the order of event_seq; read them in order and dim_customers comes out';
comment on column gold.customer_change_events.new_record is
'The golden record from now on, without its global_customer_id and updated_at, which are global_customer_id and occurred_at of the event; an absent key is null';
comment on column gold.customer_change_events.related_customer_id is
'MERGE: the customer it went into. SPLIT: the customer it came out of';

-- The number of the last event. Holds the outbox until the transaction ends: numbers
-- are given one writer at a time and become visible in order, so a reader who reads
-- on from the last number he saw misses nothing, and a rollback leaves no gap.
create or replace function gold.lock_last_event_seq()
returns bigint
language plpgsql
as $function$
begin
    lock table gold.customer_changes in share row exclusive mode;
    return coalesce((select max(changes.event_seq) from gold.customer_changes as changes), 0);
end
$function$;

create or replace function gold.replay_events()
returns setof gold.dim_customers
language sql stable
as $function$
    with last_events as (
        select distinct on (events.global_customer_id)
            events.global_customer_id,
            events.occurred_at,
            events.change_type,
            events.new_record
        from gold.customer_change_events as events
        order by events.global_customer_id asc, events.event_seq desc
    )

    select replayed.*
    from last_events
    cross join lateral jsonb_populate_record(
        null::gold.dim_customers,
        last_events.new_record || jsonb_build_object(
            'global_customer_id', last_events.global_customer_id,
            'updated_at', last_events.occurred_at
        )
    ) as replayed
    where last_events.change_type in ('INSERT', 'SPLIT', 'UPDATE')
$function$;
comment on function gold.replay_events is
'dim_customers, rebuilt from the events alone';

create table if not exists gold.event_consumers (
    consumer text primary key check (consumer <> ''),
    event_seq bigint not null check (event_seq >= 0),
    acknowledged_at timestamptz not null default now()
);
comment on table gold.event_consumers is
'One row per consumer of the events: the last event_seq it has acknowledged';

-- An error for a consumer without a name: it would read from the start for ever.
create or replace function gold.check_consumer(consumer text)
returns void
language plpgsql immutable
as $function$
begin
    if coalesce(trim(consumer), '') = '' then
        raise exception 'a consumer needs a name';
    end if;
end
$function$;

create or replace function gold.read_events(consumer text, max_events integer default 1000)
returns setof gold.customer_change_events
language plpgsql stable
as $function$
#variable_conflict use_column
begin
    perform gold.check_consumer(read_events.consumer);
    if max_events is null or max_events < 0 then
        raise exception 'max_events says how many events at most, not %', coalesce(max_events::text, 'null')
            using hint = 'Leave it out for the next 1000.';
    end if;
    return query
    select events.*
    from gold.customer_change_events as events
    where events.event_seq > coalesce((
        select consumers.event_seq
        from gold.event_consumers as consumers
        where consumers.consumer = read_events.consumer
    ), 0)
    order by events.event_seq
    limit max_events;
end
$function$;
comment on function gold.read_events is
'The next events for a consumer, after the last one it acknowledged. Reading does not move the position: what was not acknowledged comes again';

create or replace function gold.acknowledge_events(consumer text, event_seq bigint)
returns void
language plpgsql
as $function$
#variable_conflict use_column
declare
    last_seq bigint := (select max(changes.event_seq) from gold.customer_changes as changes);
    position_now bigint;
begin
    perform gold.check_consumer(acknowledge_events.consumer);
    if acknowledge_events.event_seq is null or acknowledge_events.event_seq < 0 then
        raise exception 'an event has a number from 1, and not %',
            coalesce(acknowledge_events.event_seq::text, 'null')
            using hint = '0 says that none is worked off yet.';
    end if;
    if acknowledge_events.event_seq > coalesce(last_seq, 0) then
        raise exception 'there is no event % yet', acknowledge_events.event_seq
            using hint = format('The last one is %s.', coalesce(last_seq, 0));
    end if;
    insert into gold.event_consumers as consumers (consumer, event_seq)
    values (acknowledge_events.consumer, acknowledge_events.event_seq)
    on conflict (consumer) do update
    set event_seq = excluded.event_seq, acknowledged_at = now()
    where consumers.event_seq <= excluded.event_seq
    returning consumers.event_seq into position_now;
    if position_now is null then
        raise exception '% has already acknowledged up to %', acknowledge_events.consumer, (
            select consumers.event_seq from gold.event_consumers as consumers
            where consumers.consumer = acknowledge_events.consumer
        ) using hint = 'To read again from the start, delete its row in gold.event_consumers.';
    end if;
end
$function$;
comment on function gold.acknowledge_events is
'A consumer has worked off all events up to and including event_seq';

-- Erasures happen in 090_erasure.sql; what tells the story of a customer knows of them.
create table if not exists gold.erasures (
    erasure_id bigint generated always as identity primary key,
    global_customer_id uuid not null,
    requested_by text not null check (requested_by <> ''),
    reason text not null check (reason <> ''),
    run_id integer not null,
    erased_at timestamptz not null default now(),
    record_count integer not null,
    row_counts jsonb not null,
    lake_objects text[] not null,
    still_found jsonb not null
);
comment on table gold.erasures is
'One row per erasure: the proof, without a value of the person';
comment on column gold.erasures.row_counts is
'{table: rows removed or blanked}';
comment on column gold.erasures.lake_objects is
'The objects that held lines of the person at that time; gold.erasure_objects says when each was rewritten';
comment on column gold.erasures.still_found is
'{table.column: rows} where a value of the person still stands after the erasure; empty: nowhere. Values that other people say too are theirs as well and are not searched for';
