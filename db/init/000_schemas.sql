-- The four layers, what they share, and the record of the schema itself.
-- Every file here can be applied again: it creates what is missing and replaces what is code.

create schema if not exists raw;
create schema if not exists staging;
create schema if not exists identity;
create schema if not exists gold;

create extension if not exists fuzzystrmatch;
create extension if not exists btree_gist;

comment on schema raw is 'Delivered lines as they came: append-only, every field kept';
comment on schema staging is 'Source records cleaned, profiles, candidate pairs';
comment on schema identity is 'Models, links, steward decisions, and who is who';
comment on schema gold is 'Golden customers, their history, events, and quality';

create table if not exists gold.schema_files (
    file_name text primary key,
    checksum text not null,
    applied_at timestamptz not null default now()
);
comment on table gold.schema_files is 'One row per applied schema file';

create table if not exists gold.pipeline_runs (
    run_id integer generated always as identity primary key,
    trigger text not null,
    status text not null default 'running'
    check (status in ('running', 'done', 'failed')),
    started_at timestamptz not null default now(),
    finished_at timestamptz
);
comment on table gold.pipeline_runs is
'One row per run of the pipeline, or of a phase by hand';

create table if not exists gold.pipeline_phases (
    run_id integer not null references gold.pipeline_runs (run_id),
    phase text not null,
    script text not null,
    status text not null check (status in ('done', 'failed')),
    started_at timestamptz not null,
    finished_at timestamptz not null,
    seconds numeric(12, 3) not null,
    rows_in bigint not null default 0,
    rows_out bigint not null default 0,
    detail jsonb not null default '{}',
    primary key (run_id, phase, script)
);
comment on table gold.pipeline_phases is
'One receipt per run and phase: rows in and out, seconds, what was skipped';

create table if not exists identity.ingestion_watermarks (
    phase text not null,
    upstream text not null,
    run_id integer not null,
    configuration text,
    updated_at timestamptz not null default now(),
    primary key (phase, upstream)
);
comment on table identity.ingestion_watermarks is
'One row per phase and upstream: the last run the phase has consumed';
comment on column identity.ingestion_watermarks.configuration is
'Hash of the configuration the rows were made under; another one re-reads';

create table if not exists gold.indexes_to_build (
    index_name text primary key,
    table_name text not null,
    definition text not null
);
comment on table gold.indexes_to_build is
'One row per index that the first load of a table has left to be built beside later phases';

create or replace function identity.record_key(
    source_system text, record_id text
)
returns bigint
language sql immutable strict parallel safe
return hashtextextended(source_system || chr(31) || record_id, 0);
comment on function identity.record_key is
'The key of a source record everywhere below raw: the same whatever the order of loading, so that ties broken by it are broken the same way';

-- Whether something that is a view today still stands as the table it once was.
create or replace function identity.is_still_table(table_name text)
returns boolean
language sql stable
return exists (
    select 1
    from pg_class
    where
        pg_class.oid = to_regclass(is_still_table.table_name)
        and pg_class.relkind = 'r'
);

-- The index by which the rows of the last runs are found, <table>_run_id. Runs only grow, so a summary of a few
-- pages each finds them as well as an entry for each row, in a hundredth of the room; and it need not be kept row
-- by row.
create or replace function identity.index_run_id(table_name regclass)
returns void
language plpgsql
as $function$
declare
    index_name constant text := (
        select pg_class.relname || '_run_id' from pg_class where pg_class.oid = table_name
    );
    schema_name constant text := (
        select pg_class.relnamespace::regnamespace::text from pg_class where pg_class.oid = table_name
    );
begin
    if exists (
        select from pg_class
        inner join pg_am on pg_class.relam = pg_am.oid
        where pg_class.oid = to_regclass(format('%I.%I', schema_name, index_name)) and pg_am.amname = 'brin'
    ) then
        return;
    end if;
    -- Once it was one with an entry for each row.
    execute format('drop index if exists %I.%I', schema_name, index_name);
    execute format(
        'create index %I on %s using brin (run_id) with (pages_per_range = 4, autosummarize = on)',
        index_name, table_name
    );
end
$function$;

-- Whether a table has rows of runs after this one. They stand at its end, and to find the first of them the planner
-- would begin at its start, where it takes one in so many for new: by the index they are found at once.
create or replace function identity.has_newer_rows(table_name regclass, mark integer)
returns boolean
language plpgsql
stable
set enable_seqscan = off
as $function$
declare
    found_one boolean;
begin
    execute format('select exists (select from %s where run_id > $1)', table_name) into found_one using mark;
    return found_one;
end
$function$;
