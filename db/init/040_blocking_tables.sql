-- Blocking: which profiles are worth comparing.

create table if not exists staging.blocking_rules (
    rule_id smallint primary key,
    rule_name text not null unique,
    key_terms text[] not null,
    block_limit integer not null check (block_limit >= 2)
);
comment on table staging.blocking_rules is
'One row per blocking rule of matching/model.toml, in order';

-- The keys once were one array: they are moved at the end of this file.
do $$
begin
    if exists (
        select 1
        from pg_attribute
        where
            attrelid = to_regclass('staging.blocking_keys')
            and attname = 'keys'
            and not attisdropped
    ) then
        alter table staging.blocking_keys rename to blocking_keys_as_array;
        alter index staging.blocking_keys_pkey
        rename to blocking_keys_as_array_pkey;
    end if;
end
$$;

create table if not exists staging.blocking_keys (
    profile_key bigint primary key,
    run_id integer not null,
    key_1 bigint,
    key_2 bigint,
    key_3 bigint,
    key_4 bigint,
    key_5 bigint,
    key_6 bigint,
    key_7 bigint,
    key_8 bigint,
    key_9 bigint,
    key_10 bigint,
    key_11 bigint,
    key_12 bigint,
    key_13 bigint,
    key_14 bigint,
    key_15 bigint,
    key_16 bigint,
    key_17 bigint,
    key_18 bigint,
    key_19 bigint,
    key_20 bigint,
    key_21 bigint,
    key_22 bigint,
    key_23 bigint,
    key_24 bigint,
    key_25 bigint,
    key_26 bigint,
    key_27 bigint,
    key_28 bigint,
    key_29 bigint,
    key_30 bigint,
    key_31 bigint
);
comment on table staging.blocking_keys is
'One row per live profile: the hash of its key under each blocking rule, key_1 for the rule with rule_id 1; null where the rule says nothing';

create table if not exists staging.capped_blocks (
    rule_id smallint not null,
    key bigint not null,
    profile_count bigint not null,
    anchor_limit bigint not null,
    example_profile_key bigint not null,
    run_id integer not null,
    anchors bigint[],
    primary key (rule_id, key)
);
alter table staging.capped_blocks add column if not exists anchors bigint[];
comment on table staging.capped_blocks is
'One row per blocking key shared by more profiles than the limit: its profiles are paired with its anchors only, those with a profile_key up to anchor_limit';
comment on column staging.capped_blocks.anchors is
'The keys of the anchors; null where the members have to be looked at anew';

create table if not exists staging.shared_values (
    attribute text not null check (attribute in ('email', 'phone', 'national_id')),
    value text not null,
    key bigint not null,
    profile_count integer not null,
    name_count integer not null,
    top_name_share real not null,
    run_id integer not null,
    primary key (attribute, value)
);
comment on table staging.shared_values is
'One row per value shared by many clearly different names, so it says little about who somebody is';

create table if not exists staging.identity_match_candidates_blocked (
    left_profile_key bigint not null,
    right_profile_key bigint not null,
    run_id integer not null,
    rules integer not null,
    rule_id smallint not null,
    check (left_profile_key <= right_profile_key)
);
comment on table staging.identity_match_candidates_blocked is
'One row per candidate pair of this run and the first rule that found it. Rule 0: a profile that several records share, paired with itself. Rule -1: a pair no rule finds any more';
comment on column staging.identity_match_candidates_blocked.rules is
'All rules that found the pair: bit n - 1 for rule n';

create table if not exists staging.identity_match_candidates (
    left_profile_key bigint not null,
    right_profile_key bigint not null,
    run_id integer not null,
    model_version integer not null,
    match_weight real not null,
    total_confidence_score real not null
    check (total_confidence_score between 0 and 100),
    match_decision identity.match_decision not null,
    email_score real,
    phone_score real,
    given_name_score real,
    family_name_score real,
    birth_date_score real,
    address_score real,
    city_score real,
    postal_code_score real,
    national_id_score real,
    rules integer not null,
    rule_id smallint not null,
    email_level smallint,
    phone_level smallint,
    given_name_level smallint,
    family_name_level smallint,
    birth_date_level smallint,
    address_level smallint,
    city_level smallint,
    postal_code_level smallint,
    national_id_level smallint,
    primary key (left_profile_key, right_profile_key),
    check (left_profile_key <= right_profile_key)
);
comment on table staging.identity_match_candidates is
'One row per compared pair of profiles, its newest comparison. *_level: the comparison level, 0 is else, null is missing on a side; *_score: its match weight with the term-frequency part (log2); total_confidence_score: match probability in percent';
create index if not exists identity_match_candidates_run_id
on staging.identity_match_candidates (run_id);

create table if not exists staging.blocking_rule_metrics (
    run_id integer not null,
    rule_id smallint not null,
    rule_name text not null,
    pair_count bigint not null,
    only_here_count bigint not null,
    capped_block_count integer not null,
    primary key (run_id, rule_id)
);
comment on table staging.blocking_rule_metrics is
'One row per run and rule: pairs found, pairs found by it alone, blocks capped';

-- The SQL of one key term of a blocking rule, over match_profiles as p.
-- The vocabulary is closed: anything else is an error.
create or replace function staging.blocking_term_sql(term text)
returns text
language plpgsql immutable strict
as $function$
declare
    parts constant text[] := regexp_match(
        term, '^(?:([a-z_]+)\()?([a-z_]+)(?:, *([0-9]+))?(\))?$'
    );
    called constant text := parts[1];
    wanted constant text := parts[2];
    characters constant integer := parts[3]::integer;
    col text;
    term_sql text;
begin
    if term = 'name_tokens' then
        -- Single names, as most are, need no sorting of tokens.
        return $sql$case
            when
                strpos(p.given_name, ' ') = 0 and strpos(p.family_name, ' ') = 0
                then
                    least(p.given_name collate "C", p.family_name collate "C")
                    || ' '
                    || greatest(
                        p.given_name collate "C", p.family_name collate "C"
                    )
            when p.given_name is null and strpos(p.family_name, ' ') = 0
                then p.family_name
            when p.family_name is null and strpos(p.given_name, ' ') = 0
                then p.given_name
            else (
                select string_agg(token, ' ' order by token collate "C")
                from unnest(
                    string_to_array(
                        concat_ws(' ', p.given_name, p.family_name), ' '
                    )
                ) as token
            )
        end$sql$;
    end if;
    if wanted in (
        'email', 'email_mailbox', 'phone', 'given_name', 'family_name',
        'birth_date', 'address', 'city', 'postal_code', 'national_id'
    ) then
        col := format('p.%I', wanted);
        term_sql := case
            when called is null and characters is null and parts[4] is null
                then format('%s::text', col)
            when called = 'first' and characters is not null
                then format(
                    'case when length(%1$s) >= %2$s then left(%1$s, %2$s) end',
                    col, characters
                )
            when called = 'last' and characters is not null
                then format(
                    'case when length(%1$s) >= %2$s then right(%1$s, %2$s) end',
                    col, characters
                )
            when called = 'first_token'
                then format('split_part(%s, '' '', 1)', col)
            when called = 'last_token'
                then format('split_part(%s, '' '', -1)', col)
            when called = 'soundex'
                then format(
                    'nullif(soundex(split_part(%s, '' '', %s)), '''')',
                    col, case when wanted = 'family_name' then -1 else 1 end
                )
            when called = 'year' and wanted = 'birth_date'
                then format('extract(year from %s)::text', col)
            when called = 'month_day' and wanted = 'birth_date'
                then format('to_char(%s, ''MMDD'')', col)
            when called = 'local_part'
                then format('split_part(%s, ''@'', 1)', col)
            when called = 'area'
                then format('left(%1$s, greatest(length(%1$s) - 3, 2))', col)
        end;
    end if;
    if term_sql is null then
        raise exception 'unknown blocking term %', term
            using hint = 'See [[blocking]] in matching/model.toml.';
    end if;
    return term_sql;
end
$function$;

drop function if exists staging.blocking_keys_sql();

-- One row per rule that says something about a profile.
create or replace function staging.keys_by_rule(keys staging.blocking_keys)
returns table (rule_id smallint, key bigint)
language sql immutable
as $function$
    select
        by_rule.rule_id::smallint,
        by_rule.key
    from unnest(
        array[
            keys.key_1, keys.key_2, keys.key_3, keys.key_4, keys.key_5,
            keys.key_6, keys.key_7, keys.key_8, keys.key_9, keys.key_10,
            keys.key_11, keys.key_12, keys.key_13, keys.key_14, keys.key_15,
            keys.key_16, keys.key_17, keys.key_18, keys.key_19, keys.key_20,
            keys.key_21, keys.key_22, keys.key_23, keys.key_24, keys.key_25,
            keys.key_26, keys.key_27, keys.key_28, keys.key_29, keys.key_30,
            keys.key_31
        ]
    ) with ordinality as by_rule (key, rule_id)
    where by_rule.key is not null
$function$;

-- One index over the keys of each of these rules; kept once it is made.
drop function if exists staging.index_blocking_keys();
create or replace function staging.index_blocking_keys(rule_ids smallint[])
returns void
language plpgsql
as $function$
declare
    rule smallint;
begin
    foreach rule in array rule_ids loop
        if to_regclass('staging.blocking_keys_rule_' || rule) is null then
            execute format(
                'create index %1$I on staging.blocking_keys (%2$I) '
                'where %2$I is not null',
                'blocking_keys_rule_' || rule,
                'key_' || rule
            );
        end if;
    end loop;
end
$function$;

-- Forget all keys and what was found by them, for rules that changed.
create or replace function staging.drop_blocking_keys()
returns void
language plpgsql
as $function$
declare
    rule record;
begin
    for rule in
        select blocking_rules.rule_id
        from staging.blocking_rules
    loop
        execute format(
            'drop index if exists staging.%I',
            'blocking_keys_rule_' || rule.rule_id
        );
    end loop;
    truncate
        staging.blocking_keys,
        staging.capped_blocks,
        staging.shared_values,
        staging.identity_match_candidates_blocked,
        staging.identity_match_candidates;
    delete from staging.blocking_rules;
end
$function$;

-- The keys of a former schema keep their values; so do the anchors, by them.
do $$
declare
    rule smallint;
begin
    if to_regclass('staging.blocking_keys_as_array') is null then
        return;
    end if;
    execute (
        select
            'insert into staging.blocking_keys select profile_key, run_id, '
            || string_agg(format('keys[%s]', place), ', ' order by place)
            || ' from staging.blocking_keys_as_array'
        from generate_series(1, 31) as place
    );
    drop table staging.blocking_keys_as_array;
    analyze staging.blocking_keys;
    for rule in
        select blocking_rules.rule_id
        from staging.blocking_rules
        order by blocking_rules.rule_id
    loop
        perform staging.index_blocking_keys(array[rule]);
        execute format(
            $sql$
            update staging.capped_blocks
            set
                anchors = array(
                    select blocking_keys.profile_key
                    from staging.blocking_keys
                    where
                        blocking_keys.%1$I = capped_blocks.key
                        and blocking_keys.profile_key
                        <= capped_blocks.anchor_limit
                    order by blocking_keys.profile_key
                )
            where capped_blocks.rule_id = %2$s
            $sql$,
            'key_' || rule, rule
        );
    end loop;
end
$$;
