-- The right to be forgotten (GDPR, article 17): gold.erase_customer and the proof it leaves.

create table if not exists gold.erasure_objects (
    object_id integer primary key
    references raw.ingested_objects (object_id),
    object_key text not null,
    etag text not null,
    record_lines integer[] not null,
    text_lines integer[] not null,
    rewritten_at timestamptz
);
comment on table gold.erasure_objects is
'One row per lake object with lines of erased people: to be rewritten, or rewritten. record_lines: first lines of records; text_lines: lines that could not be read';
comment on column gold.erasure_objects.etag is
'The ETag the object had when it was last read or rewritten';
-- Which delivery a rewritten object came from was not written down once.
update raw.ingested_objects as objects
set rewritten_from = rewritten.object_id
from gold.erasure_objects as rewritten
where
    objects.rewritten_from is null
    and objects.row_count + objects.rejected_count = 0
    and objects.object_key = rewritten.object_key
    and objects.etag = rewritten.etag
    and objects.object_id > rewritten.object_id;

-- Values as they may stand in a line that could not be read, or in what a
-- source delivered: as they are, and as JSON and CSV escape them. Hexadecimal
-- digits of small and capital letters differ, so there is one of each.
create or replace function gold.value_spellings(search_values text[])
returns text[]
language sql immutable strict
as $function$
    with quoted as (
        select
            value,
            -- Without the quotes around it.
            substr(to_json(value)::text, 2, length(to_json(value)::text) - 2) as json_value
        from unnest(search_values) as value
    ),

    cases as (
        select
            quoted.json_value,
            in_case.value
        from quoted
        cross join lateral (
            values
            (quoted.json_value),
            (lower(quoted.json_value)),
            (upper(quoted.json_value)),
            (initcap(quoted.json_value))
        ) as in_case (value)
        where octet_length(quoted.json_value) > length(quoted.json_value)
    ),

    ascii_only as (
        select
            (
                select
                    string_agg(
                        case
                            when ascii(letter) < 128 then letter
                            when ascii(letter) < 65536
                                then '\u' || lpad(to_hex(ascii(letter)), 4, '0')
                            -- A surrogate pair.
                            else
                                '\u' || to_hex(55296 + ((ascii(letter) - 65536) >> 10))
                                || '\u' || to_hex(56320 + ((ascii(letter) - 65536) & 1023))
                        end,
                        ''
                        order by place
                    )
                from string_to_table(cases.value, null)
                with ordinality as letters (letter, place)
            ) as value
        from cases
    ),

    escaped as (
        select quoted.json_value as value from quoted
        union all
        select ascii_only.value from ascii_only
    ),

    spellings as (
        select quoted.value from quoted
        union
        select replace(quoted.value, '"', '""') from quoted
        union
        select escaped.value from escaped
        union
        select replace(escaped.value, '/', '\/') from escaped
    )

    select coalesce(array_agg(spellings.value order by spellings.value), '{}')
    from spellings
$function$;

-- A regular expression that finds any of the values as a word of its own, also
-- behind an escaped line break.
create or replace function gold.values_pattern(search_values text[])
returns text
language sql immutable strict
as $function$
    select
        '(?:^|[^[:alnum:]]|\\[bfnrt])(?:'
        || string_agg(
            regexp_replace(value, '[^[:alnum:][:space:]]', '\\\&', 'g'),
            '|'
            order by length(value) desc, value
        )
        || ')(?:$|[^[:alnum:]])'
    from unnest(gold.value_spellings(search_values)) as value
$function$;

-- A condition that a text holds any of the values: a quick search first, and
-- the pattern only for what it finds.
create or replace function gold.values_condition(
    text_sql text, search_values text[]
)
returns text
language sql immutable strict
as $function$
    with needles as (
        select distinct lower(value) as needle
        from unnest(gold.value_spellings(search_values)) as value
    )

    -- The fence has each text lowered once, not once per needle.
    select
        '(select '
        || string_agg(
            format('strpos(text, %L) > 0', needles.needle),
            ' or '
            order by needles.needle
        )
        || format(
            ' from (select lower(%1$s) as text offset 0) as lowered) '
            'and %1$s ~* %2$L',
            text_sql,
            gold.values_pattern(search_values)
        )
    from needles
    -- What holds a longer needle holds the shorter one in it.
    where not exists (
        select 1
        from needles as shorter
        where
            shorter.needle <> needles.needle
            and strpos(needles.needle, shorter.needle) > 0
    )
$function$;

create or replace function gold.find_values(search_values text[])
returns table (table_name text, column_name text, row_count bigint)
language plpgsql stable
as $function$
declare
    found record;
begin
    for found in
        select
            columns.table_schema,
            columns.table_name,
            columns.column_name
        from information_schema.columns
        inner join information_schema.tables
            using (table_schema, table_name)
        where
            columns.table_schema in ('raw', 'staging', 'identity', 'gold')
            and tables.table_type = 'BASE TABLE'
            and columns.udt_name in ('text', 'json', 'jsonb', '_text')
            and cardinality(search_values) > 0
        order by 1, 2, columns.ordinal_position
    loop
        table_name := found.table_schema || '.' || found.table_name;
        column_name := found.column_name;
        execute format(
            'select count(*) from %I.%I where %s',
            found.table_schema,
            found.table_name,
            gold.values_condition(
                format('%I::text', found.column_name), search_values
            )
        )
        into row_count;
        if row_count > 0 then
            return next;
        end if;
    end loop;
end
$function$;
comment on function gold.find_values is
'Where values stand in the four schemas: one row per column that holds one';

-- Add to the temporary erased_values what the records in erased_members say or
-- ever said: cleaned, as delivered, and what was kept out as invalid.
create or replace function gold.gather_erased_values()
returns void
language plpgsql
as $function$
declare
    source record;
begin
    for source in
        select sources.* from raw.sources
        where to_regclass('raw.' || quote_ident(sources.raw_table)) is not null
    loop
        execute format(
            $sql$
            insert into erased_values (attribute, value)
            select
                attributes.attribute,
                attributes.value
            from staging.%I as records
            inner join erased_members
                on records.record_key = erased_members.record_key
            cross join lateral (
                values
                ('email', records.email),
                ('email', records.email_mailbox),
                ('phone', records.phone),
                ('name', records.name),
                ('given_name', records.given_name),
                ('family_name', records.family_name),
                ('birth_date', records.birth_date::text),
                ('address', records.address),
                ('address', records.address_key),
                ('city', records.city),
                ('city', records.city_key),
                ('postal_code', records.postal_code),
                ('national_id', records.national_id)
            ) as attributes (attribute, value)
            where attributes.value is not null
            union
            select
                issue.key,
                issue.value ->> 'value'
            from staging.%1$I as records
            inner join erased_members
                on records.record_key = erased_members.record_key
            cross join lateral jsonb_each(records.issues) as issue
            where issue.value ->> 'value' is not null
            $sql$,
            source.staging_table
        );
        execute format(
            $sql$
            insert into erased_values (attribute, value)
            select
                mapped.attribute,
                string_agg(
                    trim(deliveries.payload ->> field.name), ' '
                    order by field.place
                )
            from raw.%I as deliveries
            inner join erased_members
                on deliveries.record_key = erased_members.record_key
            cross join lateral jsonb_each($1) as mapped (attribute, fields)
            cross join lateral jsonb_array_elements_text(
                case jsonb_typeof(mapped.fields)
                    when 'array' then mapped.fields
                    else jsonb_build_array(mapped.fields)
                end
            ) with ordinality as field (name, place)
            where deliveries.payload ->> field.name <> ''
            group by
                deliveries.object_id,
                deliveries.line_number,
                mapped.attribute
            $sql$,
            source.raw_table
        ) using source.attributes;
    end loop;
    delete from erased_values
    using erased_values as known
    where
        erased_values.attribute = known.attribute
        and erased_values.value = known.value
        and (known.is_shared is null, known.ctid)
        < (erased_values.is_shared is null, erased_values.ctid);
end
$function$;

-- Which of the temporary erased_values other people say too, in the latest
-- delivery of a record: a family's phone, a namesake's name. Those are theirs as
-- well, and are not searched for. Neither is what does not tell who somebody is:
-- a city, a birth date, a single word.
drop function if exists gold.mark_shared_values();
create or replace function gold.mark_shared_values(family uuid[])
returns void
language plpgsql
as $function$
declare
    source record;
begin
    update erased_values
    set is_shared = true
    where
        erased_values.is_shared is null
        and (
            length(erased_values.value) < 5
            or erased_values.attribute not in (
                'email', 'phone', 'national_id', 'name', 'address'
            )
            or (
                erased_values.attribute in ('name', 'address')
                and erased_values.value !~ '[[:alnum:]]\S*\s+[^[:alnum:]]*[[:alnum:]]'
            )
        );
    -- What a steward has set for somebody else.
    update erased_values
    set is_shared = true
    from gold.customer_steward_overrides as overrides
    where
        erased_values.is_shared is null
        and erased_values.attribute = overrides.attribute::text
        and erased_values.value = overrides.value
        and overrides.retired_run_id is null
        and overrides.global_customer_id <> all(family);
    for source in
        select sources.* from raw.sources
        where to_regclass('raw.' || quote_ident(sources.raw_table)) is not null
    loop
        -- Who writes it in another way says it too: a mailbox, an address.
        execute format(
            $sql$
            update erased_values
            set is_shared = true
            from staging.%I as records
            cross join lateral (
                values
                ('email', records.email),
                ('email', records.email_mailbox),
                ('phone', records.phone),
                ('name', records.name),
                ('address', records.address),
                ('address', records.address_key),
                ('national_id', records.national_id)
            ) as said (attribute, value)
            where
                erased_values.is_shared is null
                and erased_values.attribute = said.attribute
                and erased_values.value = said.value
                and not records.is_deleted
                and not exists (
                    select 1
                    from erased_members
                    where erased_members.record_key = records.record_key
                )
            $sql$,
            source.staging_table
        );
        execute format(
            $sql$
            with deliveries as materialized (
                select
                    deliveries.payload::text as payload,
                    lower(deliveries.payload::text) as lowered
                from staging.%I as latest
                inner join raw.%I as deliveries
                    on
                        latest.object_id = deliveries.object_id
                        and latest.line_number = deliveries.line_number
                where
                    not latest.is_deleted
                    and not exists (
                        select 1
                        from erased_members
                        where erased_members.record_key = latest.record_key
                    )
                    and %s
            ),

            wanted as materialized (
                select distinct
                    erased_values.value,
                    gold.values_pattern(array[erased_values.value]) as pattern,
                    array(
                        select lower(spelling)
                        from unnest(
                            gold.value_spellings(array[erased_values.value])
                        ) as spelling
                    ) as needles
                from erased_values
                where erased_values.is_shared is null
            ),

            shared as (
                select wanted.value
                from wanted
                where exists (
                    select 1
                    from deliveries
                    where
                        exists (
                            select 1
                            from unnest(wanted.needles) as needle
                            where strpos(deliveries.lowered, needle) > 0
                        )
                        and deliveries.payload ~* wanted.pattern
                )
            )

            update erased_values
            set is_shared = true
            from shared
            where
                erased_values.is_shared is null
                and erased_values.value = shared.value
            $sql$,
            source.staging_table,
            source.raw_table,
            -- Nothing is left to search for once all are known to be shared.
            coalesce(
                gold.values_condition(
                    'deliveries.payload::text',
                    array(
                        select erased_values.value
                        from erased_values
                        where erased_values.is_shared is null
                    )
                ),
                'false'
            )
        );
    end loop;
    update erased_values
    set is_shared = false
    where erased_values.is_shared is null;
end
$function$;

-- A golden record of somebody else without the values of the temporary
-- erased_values that none of the customer's own records says now.
create or replace function gold.without_erased_values(
    golden jsonb, holder uuid
)
returns jsonb
language plpgsql
as $function$
begin
    return golden - array(
        select 'canonical_' || erased_values.attribute
        from erased_values
        where
            golden ->> ('canonical_' || erased_values.attribute)
            = erased_values.value
            and not exists (
                select 1
                from gold.customer_attribute_values as attribute_values
                where
                    attribute_values.global_customer_id = holder
                    and attribute_values.attribute::text
                    = erased_values.attribute
                    and attribute_values.value = erased_values.value
            )
    );
end
$function$;

-- Blank history, and with it the events: all of the family's, and of others the
-- past values that came from records of the person. Returns {table: rows}.
create or replace function gold.blank_erased_versions(family uuid[])
returns jsonb
language plpgsql
as $function$
declare
    affected bigint;
    counts jsonb := '{}';
begin
    -- Others who may have held records of the person: split from or into the
    -- family, or once with a value that tells who somebody is.
    create temp table former_holders on commit drop as
    select lineage.from_customer_id as global_customer_id
    from identity.customer_id_lineage as lineage
    where lineage.into_customer_id = any(family)
    union
    select lineage.into_customer_id
    from identity.customer_id_lineage as lineage
    where lineage.from_customer_id = any(family)
    union
    select history.global_customer_id
    from gold.dim_customers_history as history
    inner join erased_values
        on
            (erased_values.attribute = 'email' and history.canonical_email = erased_values.value)
            or (erased_values.attribute = 'phone' and history.canonical_phone = erased_values.value)
            or (
                erased_values.attribute = 'national_id'
                and history.canonical_national_id = erased_values.value
            )
            or (
                erased_values.attribute = 'address'
                and history.canonical_address = erased_values.value
            );
    delete from former_holders
    where former_holders.global_customer_id = any(family);

    update gold.dim_customers_history as history
    set
        canonical_name = null,
        canonical_email = null,
        canonical_phone = null,
        canonical_birth_date = null,
        canonical_address = null,
        canonical_city = null,
        canonical_postal_code = null,
        canonical_national_id = null
    where history.global_customer_id = any(family);
    get diagnostics affected = row_count;
    counts := counts || jsonb_build_object('gold.dim_customers_history', affected);

    update gold.dim_customers_history as history
    set
        canonical_name = cleared.golden ->> 'canonical_name',
        canonical_email = cleared.golden ->> 'canonical_email',
        canonical_phone = cleared.golden ->> 'canonical_phone',
        canonical_birth_date = (cleared.golden ->> 'canonical_birth_date')::date,
        canonical_address = cleared.golden ->> 'canonical_address',
        canonical_city = cleared.golden ->> 'canonical_city',
        canonical_postal_code = cleared.golden ->> 'canonical_postal_code',
        canonical_national_id = cleared.golden ->> 'canonical_national_id'
    from (
        select
            versions.global_customer_id,
            versions.version,
            to_jsonb(versions) as before,
            gold.without_erased_values(
                to_jsonb(versions), versions.global_customer_id
            ) as golden
        from gold.dim_customers_history as versions
        inner join former_holders
            on versions.global_customer_id = former_holders.global_customer_id
        where versions.valid_to is not null
    ) as cleared
    where
        history.global_customer_id = cleared.global_customer_id
        and history.version = cleared.version
        and cleared.before <> cleared.golden;

    drop table former_holders;
    return counts;
end
$function$;

-- Whether a run was left before its end: delivered records wait that no customer
-- has yet, or that one has as they were before. Whose they are is not known.
create or replace function gold.records_wait()
returns boolean
language sql stable
as $function$
    select
        identity.has_newer_rows(
            'staging.identity_inputs',
            coalesce(
                (
                    select watermarks.run_id
                    from identity.ingestion_watermarks as watermarks
                    where
                        watermarks.phase = 'run_identity_resolution'
                        and watermarks.upstream = 'staging.identity_inputs'
                ),
                0
            )
        )
        or exists (
            select 1
            from raw.ingested_objects as objects
            inner join raw.sources
                on objects.source_system = sources.source_system
            left join identity.ingestion_watermarks as watermarks
                on
                    watermarks.phase = 'run_staging'
                    and watermarks.upstream = 'raw.' || sources.raw_table
            where
                objects.row_count > 0
                and objects.run_id > coalesce(watermarks.run_id, 0)
        )
$function$;

-- Remove a customer's data from every schema, for ever.
-- 1. Gather the records (those withdrawn at their source too) and the values.
-- 2. Remove the rows that are about the person alone; where the structure must
--    stay (history, events, decisions, quarantine), blank the values.
-- 3. Close the customer with an ERASE event.
-- 4. Remember a keyed hash of each record, list the lake objects that hold one.
-- 5. Search all schemas for the values and write down the proof.
create or replace function gold.erase_customer(
    customer uuid,
    requested_by text,
    reason text
)
returns text
language plpgsql
as $function$
declare
    live_id uuid := identity.current_customer_id(customer);
    family uuid [];
    this_run integer;
    source record;
    affected bigint;
    counts jsonb := '{}';
    search_values text [];
    pattern text;
    proof gold.erasures;
    blanked constant text := '[erased]';
begin
    if coalesce(trim(requested_by), '') = '' or coalesce(trim(reason), '') = '' then
        raise exception 'an erasure needs who asked for it and why'
            using hint = 'select gold.erase_customer(''<customer>'', ''<who>'', ''<why>'');';
    end if;
    if live_id is null then
        raise exception 'there is no customer %', coalesce(customer::text, 'null');
    end if;
    if exists (
        select 1 from gold.erasures where erasures.global_customer_id = live_id
    ) and not exists (
        select 1 from identity.customer_identity_map as map
        where map.global_customer_id = live_id
    ) then
        raise exception 'customer % has been erased already', customer;
    end if;
    -- Between two of its phases a run is at work as well.
    if
        not pg_try_advisory_xact_lock(x'4d444d'::integer, 2)
        or not pg_try_advisory_xact_lock(x'4d444d'::integer, 0)
    then
        raise exception 'a run is at work on this database'
            using hint = 'Wait until it has ended, then ask again.';
    end if;
    if gold.records_wait() then
        raise exception 'records wait that are not resolved: some may be of customer %', customer
            using hint = 'Run ./run_mdm_pipeline.sh --no-producers, then ask again.';
    end if;
    insert into gold.pipeline_runs (trigger, status, finished_at)
    values ('erasure', 'done', now())
    returning run_id into this_run;

    -- 1. The ids that were merged into this one, the records, the values.
    with recursive merged as (
        select live_id as global_customer_id
        union
        select customers.global_customer_id
        from merged
        inner join identity.customers
            on merged.global_customer_id = customers.merged_into
    )

    select array_agg(merged.global_customer_id)
    into family
    from merged;

    create temp table erased_members on commit drop as
    select
        map.record_key,
        map.source_system,
        map.record_id
    from identity.customer_identity_map as map
    where map.global_customer_id = live_id;

    create temp table erased_values (
        attribute text not null,
        value text not null,
        is_shared boolean
    ) on commit drop;
    insert into erased_values (attribute, value)
    select
        attributes.attribute,
        attributes.value
    from gold.dim_customers_history as history
    cross join lateral (
        values
        ('name', history.canonical_name),
        ('email', history.canonical_email),
        ('phone', history.canonical_phone),
        ('birth_date', history.canonical_birth_date::text),
        ('address', history.canonical_address),
        ('city', history.canonical_city),
        ('postal_code', history.canonical_postal_code),
        ('national_id', history.canonical_national_id)
    ) as attributes (attribute, value)
    where
        history.global_customer_id = any(family)
        and attributes.value is not null
    union
    select
        attribute_values.attribute::text,
        attribute_values.value
    from gold.customer_attribute_values as attribute_values
    where attribute_values.global_customer_id = any(family)
    union
    select
        overrides.attribute::text,
        overrides.value
    from gold.customer_steward_overrides as overrides
    where overrides.global_customer_id = any(family);
    perform gold.gather_erased_values();
    perform gold.mark_shared_values(family);

    -- Records withdrawn at their source are in no customer any more: the
    -- person's are known by an address, number or id in a former delivery.
    search_values := array(
        select distinct erased_values.value
        from erased_values
        where
            not erased_values.is_shared
            and erased_values.attribute in ('email', 'phone', 'national_id')
    );
    for source in
        select sources.* from raw.sources
        where
            to_regclass('raw.' || quote_ident(sources.raw_table)) is not null
            and cardinality(search_values) > 0
    loop
        execute format(
            $sql$
            insert into erased_members (record_key, source_system, record_id)
            select distinct
                deliveries.record_key,
                %L,
                deliveries.record_id
            from raw.%I as deliveries
            where
                not exists (
                    select 1
                    from identity.customer_identity_map as map
                    where map.record_key = deliveries.record_key
                )
                and %s
            $sql$,
            source.source_system,
            source.raw_table,
            gold.values_condition('deliveries.payload::text', search_values)
        );
    end loop;
    perform gold.gather_erased_values();
    perform gold.mark_shared_values(family);
    search_values := array(
        select distinct erased_values.value
        from erased_values
        where not erased_values.is_shared
    );
    -- Without a value to search for, nothing is found by it.
    pattern := coalesce(gold.values_pattern(search_values), '$.^');

    -- 2a. Deliveries: all of the records, and former versions of others that
    -- once were about the person.
    create temp table erased_lines (
        object_id integer not null,
        line_number integer not null,
        is_record boolean not null
    ) on commit drop;
    create temp table erased_versions (
        profile_key bigint not null,
        is_counted boolean not null
    ) on commit drop;
    for source in
        select sources.* from raw.sources
        where to_regclass('raw.' || quote_ident(sources.raw_table)) is not null
    loop
        execute format(
            $sql$
            with gone as (
                delete from raw.%1$I as deliveries
                where
                    deliveries.record_key in (
                        select erased_members.record_key from erased_members
                    )
                    or (
                        %3$s
                        and exists (
                            select 1
                            from staging.%2$I as latest
                            where
                                latest.record_key = deliveries.record_key
                                and (latest.object_id, latest.line_number)
                                <> (deliveries.object_id, deliveries.line_number)
                        )
                    )
                returning deliveries.object_id, deliveries.line_number
            )

            insert into erased_lines (object_id, line_number, is_record)
            select gone.object_id, gone.line_number, true
            from gone
            $sql$,
            source.raw_table,
            source.staging_table,
            coalesce(
                gold.values_condition('deliveries.payload::text', search_values),
                'false'
            )
        );
        get diagnostics affected = row_count;
        counts := counts || jsonb_build_object('raw.' || source.raw_table, affected);
        execute format(
            $sql$
            with gone as (
                delete from staging.%1$I as records using erased_members
                where records.record_key = erased_members.record_key
                returning
                    records.profile_key,
                    records.run_id,
                    records.is_deleted
            )

            insert into erased_versions (profile_key, is_counted)
            select
                gone.profile_key,
                gone.run_id <= coalesce(watermarks.run_id, 0)
                and not gone.is_deleted
            from gone
            left join identity.ingestion_watermarks as watermarks
                on
                    watermarks.phase = 'run_identity_inputs'
                    and watermarks.upstream = %2$L
            $sql$,
            source.staging_table,
            'staging.' || source.staging_table
        );
        get diagnostics affected = row_count;
        counts := counts || jsonb_build_object('staging.' || source.staging_table, affected);
    end loop;

    with blanked_lines as (
        update raw.rejected_records as rejected
        set line_text = blanked, reason = blanked
        where
            rejected.line_text ~* pattern
            or rejected.reason ~* pattern
            or exists (
                select 1
                from erased_members
                inner join raw.sources
                    on erased_members.source_system = sources.source_system
                where
                    erased_members.source_system = rejected.source_system
                    and rejected.line_text ~ (
                        '"' || sources.record_id_field || '"\s*:\s*"?'
                        || regexp_replace(
                            erased_members.record_id,
                            '[^[:alnum:][:space:]]', '\\\&', 'g'
                        )
                        || '(?:$|[^[:alnum:]])'
                    )
            )
        returning
            rejected.object_id,
            rejected.line_number,
            -- A record of CSV goes on over lines, and all of them go.
            strpos(old.line_text, E'\n') > 0 as is_record
    )

    insert into erased_lines (object_id, line_number, is_record)
    select
        blanked_lines.object_id,
        blanked_lines.line_number,
        blanked_lines.is_record
    from blanked_lines;
    get diagnostics affected = row_count;
    counts := counts || jsonb_build_object('raw.rejected_records', affected);

    -- 2b. Staging: the profiles that nobody else has, and those that died with
    -- former versions of the records.
    with gone as (
        delete from staging.replaced_versions as versions
        using erased_members
        where versions.record_key = erased_members.record_key
        returning versions.profile_key, versions.run_id
    )

    insert into erased_versions (profile_key, is_counted)
    select
        gone.profile_key,
        gone.run_id <= coalesce(
            (
                select max(watermarks.run_id)
                from identity.ingestion_watermarks as watermarks
                where watermarks.phase = 'run_identity_inputs'
            ),
            0
        )
    from gone;
    create temp table erased_profiles on commit drop as
    select
        erased_versions.profile_key,
        count(*) filter (where erased_versions.is_counted)::integer as record_count
    from erased_versions
    group by erased_versions.profile_key;
    select count(distinct erased_members.record_key) into affected from erased_members;
    counts := counts || jsonb_build_object('staging.identity_inputs', affected);

    update staging.match_profiles as profiles
    set record_count = profiles.record_count - erased_profiles.record_count
    from erased_profiles
    where profiles.profile_key = erased_profiles.profile_key;
    delete from erased_profiles
    using staging.match_profiles as profiles
    where
        profiles.profile_key = erased_profiles.profile_key
        and profiles.record_count > 0;
    insert into erased_profiles (profile_key, record_count)
    select
        profiles.profile_key,
        0
    from staging.match_profiles as profiles
    where
        profiles.record_count = 0
        and (
            exists (
                select 1
                from erased_values
                where
                    not erased_values.is_shared
                    and erased_values.value in (
                        profiles.email,
                        profiles.email_mailbox,
                        profiles.phone,
                        profiles.national_id
                    )
            )
            or exists (
                select 1
                from staging.match_profiles as alive
                inner join erased_profiles
                    on alive.profile_key = erased_profiles.profile_key
                where
                    alive.given_name = profiles.given_name
                    and alive.family_name = profiles.family_name
            )
        );
    update staging.capped_blocks
    set anchors = null
    from erased_profiles
    inner join staging.blocking_keys as keys
        on erased_profiles.profile_key = keys.profile_key
    cross join lateral staging.keys_by_rule(keys) as by_rule
    where
        capped_blocks.rule_id = by_rule.rule_id
        and capped_blocks.key = by_rule.key;
    -- Phase 4.5 looks at their blocks again, as it does at those of the dead.
    with gone as (
        delete from staging.blocking_keys as keys
        using erased_profiles
        where keys.profile_key = erased_profiles.profile_key
        returning keys.*
    )

    insert into staging.erased_blocking_keys
    select gone.*
    from gone;
    delete from staging.match_profiles as profiles
    using erased_profiles
    where profiles.profile_key = erased_profiles.profile_key;
    get diagnostics affected = row_count;
    counts := counts || jsonb_build_object('staging.match_profiles', affected);

    delete from staging.compared_pairs as candidates
    where
        candidates.left_profile_key in (
            select erased_profiles.profile_key from erased_profiles
        )
        or candidates.right_profile_key in (
            select erased_profiles.profile_key from erased_profiles
        );
    get diagnostics affected = row_count;
    counts := counts || jsonb_build_object('staging.compared_pairs', affected);
    create temp table unlisted on commit drop as
    select distinct
        candidates.left_profile_key,
        candidates.right_profile_key
    from staging.identity_match_candidates_blocked as candidates
    where
        candidates.left_profile_key in (
            select erased_profiles.profile_key from erased_profiles
        )
        or candidates.right_profile_key in (
            select erased_profiles.profile_key from erased_profiles
        );
    perform staging.unlist_pairs(true);
    drop table unlisted;

    -- Values of the person that nobody else has are not needed to know what
    -- many people share.
    create temp table orphaned_values on commit drop as
    select distinct erased_values.value
    from erased_values
    where not exists (
        select 1
        from staging.match_profiles as profiles
        where
            profiles.record_count > 0
            and erased_values.value in (
                profiles.email,
                profiles.email_mailbox,
                profiles.phone,
                profiles.given_name,
                profiles.family_name,
                profiles.address,
                profiles.city,
                profiles.postal_code,
                profiles.national_id,
                profiles.birth_date::text
            )
    );
    delete from staging.shared_values
    using orphaned_values
    where shared_values.value = orphaned_values.value;
    update identity.match_models as models
    set
        parameters = jsonb_set(
            models.parameters,
            '{comparisons}',
            (
                select
                    jsonb_agg(
                        case
                            when
                                jsonb_typeof(comparison.value -> 'frequencies')
                                = 'object'
                                then
                                    jsonb_set(
                                        comparison.value,
                                        '{frequencies}',
                                        (comparison.value -> 'frequencies')
                                        - array(
                                            select orphaned_values.value
                                            from orphaned_values
                                        )
                                    )
                            else comparison.value
                        end
                        order by comparison.place
                    )
                from jsonb_array_elements(models.parameters -> 'comparisons')
                with ordinality as comparison (value, place)
            )
        )
    where
        jsonb_typeof(models.parameters -> 'comparisons') = 'array'
        and jsonb_array_length(models.parameters -> 'comparisons') > 0;
    update identity.match_models as models
    set
        parameters = jsonb_set(
            models.parameters,
            '{junk}',
            (
                select
                    jsonb_object_agg(
                        junk.attribute,
                        junk.listed - array(
                            select orphaned_values.value from orphaned_values
                        )
                    )
                from jsonb_each(models.parameters -> 'junk')
                    as junk (attribute, listed)
            )
        )
    where
        jsonb_typeof(models.parameters -> 'junk') = 'object'
        and models.parameters -> 'junk' <> '{}';

    -- 2c. Identity: links and memberships go, decisions lose their text.
    delete from identity.refused_links as links
    where
        links.left_profile_key in (
            select erased_profiles.profile_key from erased_profiles
        )
        or links.right_profile_key in (
            select erased_profiles.profile_key from erased_profiles
        );
    get diagnostics affected = row_count;
    counts := counts || jsonb_build_object('identity.refused_links', affected);
    delete from identity.memberships as map
    using erased_members
    where map.record_key = erased_members.record_key;
    get diagnostics affected = row_count;
    counts := counts || jsonb_build_object('identity.memberships', affected);
    -- The id must not come back with a record of somebody else.
    update identity.memberships as map
    set home_customer_id = null
    where map.home_customer_id = any(family);
    update identity.customers as customers
    set
        status = 'closed',
        record_count = 0,
        source_mask = 0,
        profile_count = null,
        run_id = this_run
    where customers.global_customer_id = live_id;
    update identity.customer_id_lineage as lineage
    set
        left_record_key = null,
        right_record_key = null,
        decision_id = null
    where
        lineage.from_customer_id = any(family)
        or lineage.into_customer_id = any(family);

    with emptied as (
        delete from identity.steward_decision_records as records
        using erased_members
        where records.record_key = erased_members.record_key
        returning records.decision_id
    )

    update identity.steward_match_decisions as decisions
    set
        call = blanked,
        reason = blanked,
        withdrawn_at = coalesce(decisions.withdrawn_at, now()),
        withdrawn_by = coalesce(decisions.withdrawn_by, 'erasure'),
        withdrawn_reason = blanked
    where
        decisions.decision_id in (select emptied.decision_id from emptied)
        or decisions.reason ~* pattern
        or decisions.call ~* pattern
        or decisions.withdrawn_reason ~* pattern;
    get diagnostics affected = row_count;
    counts := counts || jsonb_build_object('identity.steward_match_decisions', affected);

    -- 2d. Gold: the row and its values go, history and events keep their
    -- structure.
    delete from gold.dim_customers as customers
    where customers.global_customer_id = any(family);
    delete from gold.attribute_values as attribute_values
    where attribute_values.global_customer_id = any(family);
    get diagnostics affected = row_count;
    counts := counts || jsonb_build_object('gold.customer_attribute_values', affected);
    delete from gold.customer_attribute_conflicts as conflicts
    where conflicts.global_customer_id = any(family);
    update gold.customer_steward_overrides as overrides
    set
        value = blanked,
        reason = blanked,
        withdrawn_at = coalesce(overrides.withdrawn_at, now()),
        withdrawn_by = coalesce(overrides.withdrawn_by, 'erasure'),
        withdrawn_reason = blanked,
        retired_run_id = coalesce(overrides.retired_run_id, this_run)
    where
        overrides.global_customer_id = any(family)
        or overrides.reason ~* pattern;
    get diagnostics affected = row_count;
    counts := counts || jsonb_build_object('gold.customer_steward_overrides', affected);
    update gold.steward_acknowledgements as acknowledgements
    set
        item = blanked,
        reason = blanked,
        withdrawn_at = coalesce(acknowledgements.withdrawn_at, now()),
        withdrawn_by = coalesce(acknowledgements.withdrawn_by, 'erasure'),
        withdrawn_reason = blanked
    where
        acknowledgements.item ~* pattern
        or acknowledgements.reason ~* pattern
        or acknowledgements.withdrawn_reason ~* pattern
        or exists (
            select 1 from unnest(family) as member (id)
            where acknowledgements.item like '%' || member.id || '%'
        );
    update gold.pipeline_phases as phases
    set detail = jsonb_build_object('erased', true)
    where phases.detail::text ~* pattern;

    update gold.dim_customers_history as history
    set
        valid_to = greatest(now(), history.valid_from + interval '1 microsecond'),
        closed_run_id = this_run
    where history.global_customer_id = any(family) and history.valid_to is null;
    counts := counts || gold.blank_erased_versions(family);

    insert into gold.customer_changes (
        event_seq,
        occurred_at,
        run_id,
        change_type,
        global_customer_id
    )
    values (
        gold.lock_last_event_seq() + 1,
        now(),
        this_run,
        'ERASE',
        live_id
    );

    -- 4. What must not come back, and where it still lies.
    insert into raw.erased_records (erased_hash)
    select distinct
        raw.erased_hash(erased_members.source_system, erased_members.record_id)
    from erased_members
    on conflict do nothing;

    insert into gold.erasure_objects as known (
        object_id, object_key, etag, record_lines, text_lines
    )
    select
        objects.object_id,
        objects.object_key,
        objects.etag,
        coalesce(
            array_agg(erased_lines.line_number) filter (
                where erased_lines.is_record
            ),
            '{}'
        ),
        coalesce(
            array_agg(erased_lines.line_number) filter (
                where not erased_lines.is_record
            ),
            '{}'
        )
    from erased_lines
    inner join raw.ingested_objects as objects
        on erased_lines.object_id = objects.object_id
    group by objects.object_id
    on conflict (object_id) do update
        set
            record_lines = known.record_lines || excluded.record_lines,
            text_lines = known.text_lines || excluded.text_lines,
            rewritten_at = null;

    -- 5. The proof.
    proof.requested_by := requested_by;
    proof.reason := case when reason ~* pattern then blanked else reason end;
    insert into gold.erasures (
        global_customer_id,
        requested_by,
        reason,
        run_id,
        record_count,
        row_counts,
        lake_objects,
        still_found
    )
    select
        live_id,
        proof.requested_by,
        proof.reason,
        this_run,
        (select count(distinct erased_members.record_key) from erased_members),
        counts,
        array(
            select distinct objects.object_key
            from erased_lines
            inner join raw.ingested_objects as objects
                on erased_lines.object_id = objects.object_id
            order by objects.object_key
        ),
        coalesce(
            (
                select
                    jsonb_object_agg(
                        found.table_name || '.' || found.column_name,
                        found.row_count
                    )
                from gold.find_values(search_values) as found
            ),
            '{}'
        )
    returning * into proof;
    drop table
        erased_members, erased_values, erased_lines,
        erased_profiles, orphaned_values;
    return format(
        'Customer %s is erased: %s records. %s of the lake''s objects held them; '
        'rewrite those: python gold/rewrite_erased_objects.py. '
        'The proof is erasure %s in gold.erasures.',
        live_id,
        proof.record_count,
        cardinality(proof.lake_objects),
        proof.erasure_id
    );
end
$function$;
comment on function gold.erase_customer(uuid, text, text) is
'Remove a customer''s data from every schema for ever; gold.erasures keeps the proof';
