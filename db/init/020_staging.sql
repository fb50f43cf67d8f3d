-- Source records cleaned, their union, and the distinct profiles among them.

-- What tells profiles apart: a hash of the attributes that are matched. A record
-- that says nothing about anybody is a profile of its own.
create or replace function staging.profile_key(
    record_key bigint,
    email text,
    phone text,
    given_name text,
    family_name text,
    birth_date date,
    address_key text,
    city_key text,
    postal_code text,
    national_id text
)
returns bigint
language sql immutable parallel safe
return case
    when num_nonnulls(
        email, phone, given_name, family_name, birth_date,
        address_key, city_key, postal_code, national_id
    ) = 0 then record_key
    else hash_record_extended(
        row(
            email, phone, given_name, family_name, birth_date,
            address_key, city_key, postal_code, national_id
        ),
        0
    )
end;

-- Make the cleaned table of a source, one row per source record, latest version.
create or replace function staging.create_source_table(table_name text)
returns void
language plpgsql
as $function$
declare
    profile_key constant text :=
    'profile_key bigint not null generated always as (staging.profile_key('
    'record_key, email, phone, given_name, family_name, birth_date, '
    'address_key, city_key, postal_code, national_id)) stored';
begin
    execute format(
        $ddl$
        create table if not exists staging.%1$I (
            record_key bigint primary key,
            event_ts timestamptz not null,
            %2$s,
            run_id integer not null,
            object_id integer not null,
            line_number integer not null,
            birth_date date,
            is_deleted boolean not null,
            record_id text not null,
            email text,
            email_mailbox text,
            phone text,
            name text,
            given_name text,
            family_name text,
            address text,
            address_key text,
            city text,
            city_key text,
            postal_code text,
            national_id text,
            issues jsonb
        )
        $ddl$,
        table_name,
        profile_key
    );
    execute format(
        'alter table staging.%I add column if not exists %s', table_name, profile_key
    );
    perform identity.index_run_id(format('staging.%I', table_name)::regclass);
    -- The records of a profile are found by identity.memberships.
    execute format('drop index if exists staging.%I', table_name || '_profile_key');
    execute format(
        'comment on table staging.%I is %L',
        table_name,
        'One row per source record, its latest version, cleaned. name, '
        || 'address and city are for people; given_name, family_name, '
        || '*_key for matching. email_mailbox: where mail to the address '
        || 'arrives, if that is another one. issues: {attribute: {value, '
        || 'reason}} of what was kept out as invalid or junk'
    );
end
$function$;

-- The union of all sources' records: a view over their tables, so that a record
-- is kept once. To be made again when there is a table more.
create or replace function staging.create_identity_inputs()
returns void
language plpgsql
as $function$
declare
    select_list constant text := 'records.record_key, records.profile_key, '
    'records.run_id, records.is_deleted, records.event_ts, records.birth_date, '
    '%L::text as source_system, records.record_id, records.email, '
    'records.phone, records.name, records.address, records.city, '
    'upper(records.postal_code) as postal_code, records.national_id, '
    '%s::smallint as source_number';
    definition text;
begin
    select
        string_agg(
            format(
                'select ' || select_list || ' from staging.%I as records',
                sources.source_system,
                sources.source_number,
                sources.staging_table
            ),
            ' union all '
            order by sources.source_system
        )
    into definition
    from raw.sources
    where to_regclass(format('staging.%I', sources.staging_table)) is not null;
    execute 'create or replace view staging.identity_inputs as ' || coalesce(
        definition,
        'select null::bigint as record_key, null::bigint as profile_key, '
        'null::integer as run_id, null::boolean as is_deleted, '
        'null::timestamptz as event_ts, null::date as birth_date, '
        'null::text as source_system, null::text as record_id, '
        'null::text as email, null::text as phone, null::text as name, '
        'null::text as address, null::text as city, '
        'null::text as postal_code, null::text as national_id, '
        'null::smallint as source_number where false'
    );
    comment on view staging.identity_inputs is
    'One row per source record of any source: the canonical attributes, as people read them';
end
$function$;

create table if not exists staging.replaced_versions (
    record_key bigint not null,
    profile_key bigint not null,
    run_id integer not null
);
comment on table staging.replaced_versions is
'One row per version of a source record that counted in its profile and was replaced since phase 4 last counted';
comment on column staging.replaced_versions.run_id is
'The run in which the version came';

-- The union was a table once, with a copy of every record.
do $migration$
declare
    source record;
    queue text := pg_get_viewdef(to_regclass('gold.steward_review_queue'));
    queue_comment text := obj_description(
        to_regclass('gold.steward_review_queue'), 'pg_class'
    );
    resolved_run_id integer := coalesce(
        (
            select watermarks.run_id
            from identity.ingestion_watermarks as watermarks
            where
                watermarks.phase = 'run_identity_resolution'
                and watermarks.upstream = 'staging.identity_inputs'
        ),
        0
    );
begin
    if not identity.is_still_table('staging.identity_inputs') then
        return;
    end if;
    alter table staging.identity_inputs rename to united_records;
    drop view if exists gold.steward_review_queue;
    for source in
        select
            sources.source_system,
            sources.staging_table,
            coalesce(watermarks.run_id, 0) as counted_run_id
        from raw.sources
        left join identity.ingestion_watermarks as watermarks
            on
                watermarks.phase = 'run_identity_inputs'
                and watermarks.upstream = 'staging.' || sources.staging_table
    loop
        perform staging.create_source_table(source.staging_table);
        execute format(
            'insert into staging.replaced_versions '
            '(record_key, profile_key, run_id) '
            'select known.record_key, known.profile_key, $1 '
            'from staging.%I as records '
            'inner join staging.united_records as known '
            'on records.record_key = known.record_key '
            'where records.run_id > $1 and not known.is_deleted',
            source.staging_table
        ) using source.counted_run_id;
        -- Phase 6 takes what came after its mark, by the run of phase 3 now.
        execute format(
            'update staging.%I as records set run_id = known.run_id '
            'from staging.united_records as known '
            'where records.record_key = known.record_key '
            'and records.run_id <= $1 and known.run_id > $1',
            source.staging_table
        ) using resolved_run_id;
    end loop;
    perform staging.create_identity_inputs();
    drop table staging.united_records;
    if queue is not null then
        execute 'create view gold.steward_review_queue as ' || queue;
        execute format(
            'comment on view gold.steward_review_queue is %L', queue_comment
        );
    end if;
end
$migration$;

select staging.create_identity_inputs();

create table if not exists staging.match_profiles (
    profile_key bigint primary key,
    run_id integer not null,
    record_count integer not null check (record_count >= 0),
    birth_date date,
    email text,
    email_mailbox text,
    phone text,
    given_name text,
    family_name text,
    address text,
    city text,
    postal_code text,
    national_id text
);
comment on table staging.match_profiles is
'One row per distinct combination of the attributes that are matched; a customer with 10,000 equal orders is one profile';
comment on column staging.match_profiles.run_id is
'The run in which the profile last came to life (record_count from 0) or died (to 0)';
comment on column staging.match_profiles.email_mailbox is
'Where mail to the address arrives, if that is another one';
select identity.index_run_id('staging.match_profiles');
