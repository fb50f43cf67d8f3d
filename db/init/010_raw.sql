-- Delivered lines, the objects they came in, and the lines that could not be read.

create table if not exists raw.sources (
    source_system text primary key
    check (source_system ~ '^[a-z][a-z0-9_]{0,39}$'),
    prefix text not null unique,
    raw_table text not null unique
    check (raw_table ~ '^[a-z][a-z0-9_]{0,59}$'),
    staging_table text not null unique
    check (staging_table ~ '^[a-z][a-z0-9_]{0,59}$'),
    record_id_field text not null,
    event_ts_field text,
    attributes jsonb not null,
    updated_at timestamptz not null default now()
);
comment on table raw.sources is
'One row per source system: the mapping of ingestion/sources.toml, for the phases after ingestion';

create table if not exists raw.ingested_objects (
    object_id integer generated always as identity primary key,
    source_system text not null references raw.sources (source_system),
    object_key text not null,
    etag text not null,
    size_bytes bigint not null,
    last_modified timestamptz not null,
    row_count bigint not null,
    rejected_count bigint not null,
    run_id integer not null,
    ingested_at timestamptz not null default now(),
    unique (object_key, etag)
);
comment on table raw.ingested_objects is 'One row per lake object and ETag';
create index if not exists ingested_objects_run_id
on raw.ingested_objects (run_id);

create table if not exists raw.rejected_records (
    rejected_id bigint generated always as identity primary key,
    source_system text not null,
    object_id integer not null references raw.ingested_objects (object_id),
    object_key text not null,
    line_number integer not null,
    reason text not null,
    line_text text not null,
    run_id integer not null,
    rejected_at timestamptz not null default now()
);
comment on table raw.rejected_records is
'One row per line that could not be read, with its text and reason';
create index if not exists rejected_records_run_id
on raw.rejected_records (run_id);

-- Make the table of a source, one row per delivered line, if it is not there.
create or replace function raw.create_source_table(
    source_system text, table_name text
)
returns void
language plpgsql
as $function$
begin
    execute format(
        $ddl$
        create table if not exists raw.%1$I (
            object_id integer not null,
            line_number integer not null,
            run_id integer not null,
            is_deleted boolean not null,
            event_ts timestamptz not null,
            record_key bigint not null generated always as (
                identity.record_key(%2$L, record_id)
            ) stored,
            record_id text not null check (record_id <> ''),
            payload json not null,
            primary key (object_id, line_number)
        )
        $ddl$,
        table_name,
        source_system
    );
    execute format(
        'create index if not exists %I on raw.%I (run_id)',
        table_name || '_run_id',
        table_name
    );
    execute format(
        'comment on table raw.%I is %L',
        table_name,
        'One row per delivered line of ' || source_system
    );
end
$function$;
