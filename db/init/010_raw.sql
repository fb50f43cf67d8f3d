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
    day_first boolean not null,
    region text check (region ~ '^[A-Z]{2}$'),
    updated_at timestamptz not null default now()
);
alter table raw.sources
add column if not exists source_number smallint unique
generated always as identity;
alter table raw.sources
add column if not exists source_bit bigint
generated always as (
    case when source_number <= 63 then 1::bigint << (source_number - 1) else 0 end
) virtual;
comment on table raw.sources is
'One row per source system: the mapping of ingestion/sources.toml, for the phases after ingestion';
comment on column raw.sources.attributes is
'{canonical attribute: [field, ...]}; several fields are joined by a space';
comment on column raw.sources.day_first is
'Whether 03/04/2020 is the third of April in this source';
comment on column raw.sources.source_bit is
'Stands for the source in identity.customers.source_mask; a 64th source has none and is not in the match rates';
comment on column raw.sources.region is
'Country of phone numbers without a country code; null: MDM_DEFAULT_REGION';

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
    ingested_at timestamptz not null default now()
);
-- An object may be replaced, and come back as it was.
alter table raw.ingested_objects
add column if not exists delivery integer not null default 1;
alter table raw.ingested_objects
drop constraint if exists ingested_objects_object_key_etag_key;
create unique index if not exists ingested_objects_delivery
on raw.ingested_objects (object_key, etag, delivery);
-- What erasure left of a delivery is told by its lines, not by those of another one under the same key.
alter table raw.ingested_objects
add column if not exists rewritten_from integer
references raw.ingested_objects (object_id);
comment on column raw.ingested_objects.rewritten_from is
'The delivery of which this is what erasure left; null: it was delivered';
comment on table raw.ingested_objects is
'One row per delivery of a lake object: its key, the ETag of what was in it, and how many times that was in it';

-- What is under a key as it was taken in last, or as erasure left it of that: it brings no rows of its own.
create or replace view raw.current_objects as
select distinct
    known.object_key,
    known.etag
from raw.ingested_objects as known
where
    not exists (
        select 1
        from raw.ingested_objects as later
        where
            later.object_key = known.object_key
            and later.object_id > known.object_id
            and later.etag <> known.etag
            and later.row_count + later.rejected_count > 0
    );
comment on view raw.current_objects is
'One row per lake object and ETag that is not to be taken in again';
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

-- Records of people who were erased: a re-delivery is not taken in again. Only
-- a keyed hash is kept, which tells nothing without the secret.
create table if not exists raw.erased_records (
    erased_hash bytea primary key check (length(erased_hash) = 32),
    erased_at timestamptz not null default now()
);
comment on table raw.erased_records is 'One row per erased source record';

create table if not exists raw.erasure_secret (
    is_only boolean primary key default true check (is_only),
    secret bytea not null check (length(secret) between 32 and 64)
);
comment on table raw.erasure_secret is
'One row: the key of raw.erased_hash, made at random. Keep it out of dumps that leave the house';
insert into raw.erasure_secret (secret)
values (uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid()))
on conflict do nothing;
revoke all on raw.erasure_secret from public;

-- HMAC-SHA256 (RFC 2104) for keys of up to 64 bytes.
create or replace function raw.hmac_sha256(message bytea, key bytea)
returns bytea
language plpgsql immutable strict
as $function$
declare
    inner_pad bytea := decode(repeat('36', 64), 'hex');
    outer_pad bytea := decode(repeat('5c', 64), 'hex');
begin
    for place in 0..length(key) - 1 loop
        inner_pad := set_byte(
            inner_pad, place, get_byte(inner_pad, place) # get_byte(key, place)
        );
        outer_pad := set_byte(
            outer_pad, place, get_byte(outer_pad, place) # get_byte(key, place)
        );
    end loop;
    return sha256(outer_pad || sha256(inner_pad || message));
end
$function$;

-- What is remembered of an erased source record.
create or replace function raw.erased_hash(source_system text, record_id text)
returns bytea
language sql stable strict
as $function$
    select raw.hmac_sha256(
        convert_to(erased_hash.source_system || chr(31) || erased_hash.record_id, 'UTF8'),
        erasure_secret.secret
    )
    from raw.erasure_secret
$function$;

-- Make the table of a source, one row per delivered line, if it is not there.
-- What came after a run is found by its objects: an index on run_id beside the
-- key would make loading a third slower.
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
            event_ts timestamptz not null,
            object_id integer not null,
            line_number integer not null,
            run_id integer not null,
            is_deleted boolean not null,
            -- identity.record_key(); a virtual column takes no function of ours.
            record_key bigint generated always as (
                hashtextextended(%2$L || chr(31) || record_id, 0)
            ) virtual,
            record_id text not null check (record_id <> ''),
            payload json not null,
            -- Lines come in the order of the key, so no page of it needs room for more.
            primary key (object_id, line_number) with (fillfactor = 100)
        )
        $ddl$,
        table_name,
        source_system
    );
    execute format(
        'comment on table raw.%I is %L',
        table_name,
        'One row per delivered line of ' || source_system
    );
end
$function$;
