-- Source records cleaned, their union, and the distinct profiles among them.

-- Make the cleaned table of a source, one row per source record, latest version.
create or replace function staging.create_source_table(table_name text)
returns void
language plpgsql
as $function$
begin
    execute format(
        $ddl$
        create table if not exists staging.%1$I (
            record_key bigint primary key,
            run_id integer not null,
            object_id integer not null,
            line_number integer not null,
            is_deleted boolean not null,
            event_ts timestamptz not null,
            birth_date date,
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
        table_name
    );
    execute format(
        'create index if not exists %I on staging.%I (run_id)',
        table_name || '_run_id',
        table_name
    );
    execute format(
        'comment on table staging.%I is %L',
        table_name,
        'One row per source record, its latest version, cleaned. name, '
        || 'address and city are for people; given_name, family_name, '
        || '*_key for matching. issues: {attribute: {value, reason}} of '
        || 'what was kept out as invalid or junk'
    );
end
$function$;

create table if not exists staging.identity_inputs (
    record_key bigint primary key,
    profile_key bigint not null,
    run_id integer not null,
    is_deleted boolean not null,
    event_ts timestamptz not null,
    birth_date date,
    source_system text not null,
    record_id text not null,
    email text,
    phone text,
    name text,
    address text,
    city text,
    postal_code text,
    national_id text
);
comment on table staging.identity_inputs is
'One row per source record of any source: the canonical attributes, as people read them';
create index if not exists identity_inputs_run_id
on staging.identity_inputs (run_id);
create index if not exists identity_inputs_profile_key
on staging.identity_inputs (profile_key);

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
create index if not exists match_profiles_run_id
on staging.match_profiles (run_id);
