-- Blocking: which profiles are worth comparing.

create table if not exists staging.blocking_rules (
    rule_id smallint primary key,
    rule_name text not null unique,
    key_terms text[] not null,
    block_limit integer not null check (block_limit >= 2)
);
comment on table staging.blocking_rules is
'One row per blocking rule of matching/model.toml, in order';

create table if not exists staging.blocking_keys (
    profile_key bigint primary key,
    run_id integer not null,
    keys bigint [] not null
);
comment on table staging.blocking_keys is
'One row per live profile: the hash of its key under each blocking rule, in order of rule_id; null where the rule says nothing';

create table if not exists staging.capped_blocks (
    rule_id smallint not null,
    key bigint not null,
    profile_count bigint not null,
    anchor_limit bigint not null,
    example_profile_key bigint not null,
    run_id integer not null,
    primary key (rule_id, key)
);
comment on table staging.capped_blocks is
'One row per blocking key shared by more profiles than the limit: its profiles are paired with its anchors only, those with a profile_key up to anchor_limit';

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
        -- Two single names, as most are, need no sorting of tokens.
        return $sql$case
            when
                strpos(p.given_name, ' ') = 0 and strpos(p.family_name, ' ') = 0
                then
                    least(p.given_name collate "C", p.family_name collate "C")
                    || ' '
                    || greatest(
                        p.given_name collate "C", p.family_name collate "C"
                    )
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

-- The SQL array of a profile's hashed keys, one per rule in order of rule_id.
create or replace function staging.blocking_keys_sql()
returns text
language sql stable
as $function$
    with rule_terms as (
        select
            blocking_rules.rule_id,
            string_agg(
                '(' || staging.blocking_term_sql(listed.term) || ')',
                ' || chr(31) || '
                order by listed.place
            ) as terms
        from staging.blocking_rules
        cross join
            unnest(blocking_rules.key_terms) with ordinality
                as listed (term, place)
        group by blocking_rules.rule_id
    )

    select
        'array[' || string_agg(
            'hashtextextended(' || rule_terms.terms || ', 0)',
            ', ' order by rule_terms.rule_id
        ) || ']::bigint[]'
    from rule_terms
$function$;

-- Pair the blocks of one rule that new_keys or dead_keys touch, into
-- found_pairs; note in stale_pairs what has to be looked at again.
create or replace function staging.pair_blocks(
    this_run integer, rule_id smallint, block_limit integer,
    anchor_count integer, is_first_load boolean
)
returns void
language plpgsql
as $function$
begin
    drop table if exists block_members;
    if is_first_load then
        execute format(
            $sql$
            create temp table block_members on commit drop as
            with sizes as (
                select
                    blocking_keys.keys[%1$s] as key,
                    count(*) as size
                from staging.blocking_keys
                where blocking_keys.keys[%1$s] is not null
                group by blocking_keys.keys[%1$s]
                having count(*) > 1
            )

            select
                sizes.key,
                blocking_keys.profile_key,
                sizes.size,
                sizes.size > %2$s as is_capped,
                true as is_afresh,
                true as is_new
            from sizes
            inner join staging.blocking_keys
                on sizes.key = blocking_keys.keys[%1$s]
            $sql$,
            rule_id, block_limit
        );
    else
        execute format(
            $sql$
            create temp table block_members on commit drop as
            with changes as (
                select
                    new_keys.keys[%1$s] as key,
                    new_keys.profile_key,
                    1 as change
                from new_keys
                where new_keys.keys[%1$s] is not null
                union all
                select
                    dead_keys.keys[%1$s],
                    dead_keys.profile_key,
                    -1
                from dead_keys
                where dead_keys.keys[%1$s] is not null
            ),

            touched as (
                select
                    changes.key,
                    sum(changes.change) as growth,
                    min(changes.profile_key) as smallest_profile_key
                from changes
                group by changes.key
            ),

            sizes as materialized (
                select
                    touched.key,
                    touched.growth,
                    touched.smallest_profile_key,
                    count(*) as size
                from touched
                inner join staging.blocking_keys
                    on touched.key = blocking_keys.keys[%1$s]
                group by
                    touched.key, touched.growth, touched.smallest_profile_key
                having count(*) > 1
            )

            select
                sizes.key,
                blocking_keys.profile_key,
                sizes.size,
                sizes.size > %2$s as is_capped,
                (sizes.size > %2$s) <> (sizes.size - sizes.growth > %2$s)
                or (
                    sizes.size > %2$s
                    and sizes.smallest_profile_key <= capped_blocks.anchor_limit
                ) as is_afresh,
                blocking_keys.run_id = %3$s as is_new
            from sizes
            inner join staging.blocking_keys
                on sizes.key = blocking_keys.keys[%1$s]
            left join staging.capped_blocks
                on
                    capped_blocks.rule_id = %1$s
                    and sizes.key = capped_blocks.key
            $sql$,
            rule_id, block_limit, this_run
        );
    end if;
    analyze block_members;

    -- A block that is no longer over the limit, or no longer there.
    delete from staging.capped_blocks
    where
        capped_blocks.rule_id = pair_blocks.rule_id
        and (
            exists (
                select 1
                from block_members
                where
                    block_members.key = capped_blocks.key
                    and not block_members.is_capped
            )
            or exists (
                select 1
                from dead_keys
                where
                    dead_keys.keys[pair_blocks.rule_id] = capped_blocks.key
                    and not exists (
                        select 1
                        from block_members
                        where block_members.key = capped_blocks.key
                    )
            )
        );
    insert into staging.capped_blocks as known (
        rule_id, key, profile_count, anchor_limit, example_profile_key, run_id
    )
    select
        pair_blocks.rule_id,
        ranked.key,
        ranked.size,
        max(ranked.profile_key),
        min(ranked.profile_key),
        this_run
    from (
        select
            block_members.key,
            block_members.profile_key,
            block_members.size,
            row_number() over (
                partition by block_members.key
                order by block_members.profile_key
            ) as place
        from block_members
        where block_members.is_capped
    ) as ranked
    where ranked.place <= anchor_count
    group by ranked.key, ranked.size
    on conflict on constraint capped_blocks_pkey do update
        set
            profile_count = excluded.profile_count,
            anchor_limit = excluded.anchor_limit,
            example_profile_key = excluded.example_profile_key,
            run_id = excluded.run_id;

    -- All with all, as far as one of the two is new or the block afresh.
    insert into found_pairs (left_profile_key, right_profile_key, rule_id)
    select
        left_side.profile_key,
        right_side.profile_key,
        pair_blocks.rule_id
    from block_members as left_side
    inner join block_members as right_side
        on
            left_side.key = right_side.key
            and left_side.profile_key < right_side.profile_key
    where
        not left_side.is_capped
        and not right_side.is_capped
        and (left_side.is_afresh or left_side.is_new or right_side.is_new);

    -- Over the limit: the anchors with all.
    insert into found_pairs (left_profile_key, right_profile_key, rule_id)
    with anchors as materialized (
        select
            block_members.key,
            block_members.profile_key,
            block_members.is_afresh,
            block_members.is_new
        from staging.capped_blocks
        inner join block_members
            on
                capped_blocks.key = block_members.key
                and capped_blocks.anchor_limit >= block_members.profile_key
        where
            capped_blocks.rule_id = pair_blocks.rule_id
            and block_members.is_capped
    )

    select
        anchors.profile_key,
        block_members.profile_key,
        pair_blocks.rule_id
    from anchors
    inner join block_members
        on
            anchors.key = block_members.key
            and anchors.profile_key < block_members.profile_key
    where anchors.is_afresh or anchors.is_new or block_members.is_new;
    if is_first_load then
        return;
    end if;

    -- What was compared before in a block that is over the limit and has a new
    -- shape may have lost its support.
    execute format(
        $sql$
        insert into stale_pairs (left_profile_key, right_profile_key)
        select
            candidates.left_profile_key,
            candidates.right_profile_key
        from block_members
        inner join staging.capped_blocks
            on
                capped_blocks.rule_id = %1$s
                and block_members.key = capped_blocks.key
        inner join staging.identity_match_candidates as candidates
            on block_members.profile_key = candidates.left_profile_key
        inner join staging.blocking_keys as right_side
            on candidates.right_profile_key = right_side.profile_key
        where
            block_members.is_capped
            and block_members.is_afresh
            and block_members.profile_key > capped_blocks.anchor_limit
            and right_side.keys[%1$s] = block_members.key
            and candidates.rule_id > 0
        $sql$,
        rule_id
    );
end
$function$;

-- Find values that many clearly different names share, among those that
-- new_keys and dead_keys touch: at least 5 names (by the first three letters of
-- the family name, else of the given name), none with half of the records. A
-- value that became shared, or no longer is, has its pairs compared again.
create or replace function staging.find_shared_values(
    this_run integer, is_first_load boolean
)
returns void
language plpgsql
as $function$
declare
    wanted text;
    rule smallint;
begin
    foreach wanted in array array['email', 'phone', 'national_id'] loop
        select blocking_rules.rule_id
        into rule
        from staging.blocking_rules
        where blocking_rules.key_terms in (
            array[wanted], array[wanted || '_mailbox']
        )
        order by blocking_rules.rule_id
        limit 1;
        continue when rule is null;
        if is_first_load then
            execute format(
                $sql$
                create temp table touched_keys on commit drop as
                select blocking_keys.keys[%1$s] as key
                from staging.blocking_keys
                where blocking_keys.keys[%1$s] is not null
                group by blocking_keys.keys[%1$s]
                having count(*) >= 5
                $sql$,
                rule
            );
        else
            execute format(
                $sql$
                create temp table touched_keys on commit drop as
                select new_keys.keys[%1$s] as key
                from new_keys
                where new_keys.keys[%1$s] is not null
                union
                select dead_keys.keys[%1$s]
                from dead_keys
                where dead_keys.keys[%1$s] is not null
                $sql$,
                rule
            );
        end if;
        analyze touched_keys;
        execute format(
            $sql$
            create temp table value_names on commit drop as
            with large as (
                select touched_keys.key
                from touched_keys
                inner join staging.blocking_keys
                    on touched_keys.key = blocking_keys.keys[%1$s]
                group by touched_keys.key
                having count(*) >= 5
            ),

            names as (
                select
                    large.key,
                    match_profiles.%2$I as value,
                    left(
                        coalesce(
                            match_profiles.family_name,
                            match_profiles.given_name
                        ),
                        3
                    ) as name,
                    count(*) as profiles,
                    sum(match_profiles.record_count) as records
                from large
                inner join staging.blocking_keys
                    on large.key = blocking_keys.keys[%1$s]
                inner join staging.match_profiles
                    on blocking_keys.profile_key = match_profiles.profile_key
                group by 1, 2, 3
            )

            select
                names.key,
                names.value,
                sum(names.profiles)::integer as profile_count,
                count(names.name)::integer as name_count,
                (
                    max(names.records) filter (where names.name is not null)
                    / sum(names.records) filter (where names.name is not null)
                )::real as top_name_share
            from names
            group by names.key, names.value
            having
                count(names.name) >= 5
                and max(names.records) filter (where names.name is not null)
                < 0.5
                * sum(names.records) filter (where names.name is not null)
            $sql$,
            rule, wanted
        );
        create temp table changed_values on commit drop as
        with gone as (
            delete from staging.shared_values
            using touched_keys
            where
                shared_values.attribute = wanted
                and shared_values.key = touched_keys.key
                and not exists (
                    select 1
                    from value_names
                    where value_names.value = shared_values.value
                )
            returning shared_values.key, shared_values.value
        )

        select
            gone.key,
            gone.value
        from gone
        union all
        select
            value_names.key,
            value_names.value
        from value_names
        where not exists (
            select 1
            from staging.shared_values
            where
                shared_values.attribute = wanted
                and shared_values.value = value_names.value
        );
        insert into staging.shared_values as known (
            attribute, value, key, profile_count,
            name_count, top_name_share, run_id
        )
        select
            wanted,
            value_names.value,
            value_names.key,
            value_names.profile_count,
            value_names.name_count,
            value_names.top_name_share,
            this_run
        from value_names
        on conflict on constraint shared_values_pkey do update
            set
                profile_count = excluded.profile_count,
                name_count = excluded.name_count,
                top_name_share = excluded.top_name_share,
                run_id = excluded.run_id;
        if not is_first_load then
            execute format(
                $sql$
                insert into staging.identity_match_candidates_blocked (
                    left_profile_key, right_profile_key, run_id, rules, rule_id
                )
                select
                    candidates.left_profile_key,
                    candidates.right_profile_key,
                    %1$s,
                    candidates.rules,
                    candidates.rule_id
                from changed_values
                inner join staging.blocking_keys
                    on changed_values.key = blocking_keys.keys[%2$s]
                inner join staging.identity_match_candidates as candidates
                    on blocking_keys.profile_key = candidates.left_profile_key
                inner join staging.match_profiles as left_side
                    on candidates.left_profile_key = left_side.profile_key
                inner join staging.match_profiles as right_side
                    on candidates.right_profile_key = right_side.profile_key
                where
                    left_side.%3$I = changed_values.value
                    and right_side.%3$I = changed_values.value
                    and candidates.rule_id >= 0
                $sql$,
                this_run, rule, wanted
            );
        end if;
        drop table touched_keys, value_names, changed_values;
    end loop;
end
$function$;

-- Find the candidate pairs of this run, into identity_match_candidates_blocked.
-- 1. Profiles that came to life since the mark get their blocking keys; those
--    that died lose them.
-- 2. Under each rule, a new profile is paired with all of its block. A block
--    over the limit is capped: everyone in it is paired with its anchors only,
--    the few smallest profile keys, so that its pairs grow with its size and
--    not with the square.
-- 3. A block that crossed the limit, or whose anchors changed, is paired
--    afresh; pairs of it that no rule supports any more are listed as rule -1.
--    So the pairs in force depend on the profiles there are, and not on the
--    order in which they came.
-- 4. A profile that several records share is paired with itself (rule 0).
-- Returns the number of pairs listed.
create or replace function staging.find_candidates(
    this_run integer, mark integer, anchor_count integer
)
returns bigint
language plpgsql
as $function$
declare
    rule record;
    is_first_load boolean;
    listed_count bigint;
begin
    select not exists (select 1 from staging.blocking_keys) into is_first_load;

    create temp table dead_keys on commit drop as
    with dead as (
        delete from staging.blocking_keys
        using staging.match_profiles
        where
            match_profiles.profile_key = blocking_keys.profile_key
            and match_profiles.run_id > mark
            and match_profiles.record_count = 0
        returning blocking_keys.profile_key, blocking_keys.keys
    )

    select
        dead.profile_key,
        dead.keys
    from dead;

    execute format(
        $sql$
        create temp table new_keys on commit drop as
        select
            p.profile_key,
            %s as keys
        from staging.match_profiles as p
        where
            p.run_id > %s
            and p.record_count > 0
            and not exists (
                select 1
                from staging.blocking_keys
                where blocking_keys.profile_key = p.profile_key
            )
        $sql$,
        staging.blocking_keys_sql(),
        mark
    );
    analyze new_keys;

    insert into staging.blocking_keys (profile_key, run_id, keys)
    select
        new_keys.profile_key,
        this_run,
        new_keys.keys
    from new_keys;
    if is_first_load then
        analyze staging.blocking_keys;
    end if;

    create temp table found_pairs (
        left_profile_key bigint not null,
        right_profile_key bigint not null,
        rule_id smallint not null
    ) on commit drop;
    create temp table stale_pairs (
        left_profile_key bigint not null,
        right_profile_key bigint not null
    ) on commit drop;

    for rule in
        select blocking_rules.*
        from staging.blocking_rules
        order by blocking_rules.rule_id
    loop
        perform staging.pair_blocks(
            this_run, rule.rule_id, rule.block_limit,
            anchor_count, is_first_load
        );
    end loop;

    -- Each pair once, with the first rule that found it.
    insert into staging.identity_match_candidates_blocked (
        left_profile_key, right_profile_key, run_id, rules, rule_id
    )
    select
        found_pairs.left_profile_key,
        found_pairs.right_profile_key,
        this_run,
        bit_or(1 << (found_pairs.rule_id - 1)),
        min(found_pairs.rule_id)
    from found_pairs
    group by found_pairs.left_profile_key, found_pairs.right_profile_key;
    get diagnostics listed_count = row_count;

    insert into staging.identity_match_candidates_blocked (
        left_profile_key, right_profile_key, run_id, rules, rule_id
    )
    select
        match_profiles.profile_key,
        match_profiles.profile_key,
        this_run,
        0,
        0
    from staging.match_profiles
    where match_profiles.run_id > mark and match_profiles.record_count > 1;

    insert into staging.identity_match_candidates_blocked (
        left_profile_key, right_profile_key, run_id, rules, rule_id
    )
    select distinct
        stale_pairs.left_profile_key,
        stale_pairs.right_profile_key,
        this_run,
        0,
        -1::smallint
    from stale_pairs
    inner join staging.blocking_keys as left_side
        on stale_pairs.left_profile_key = left_side.profile_key
    inner join staging.blocking_keys as right_side
        on stale_pairs.right_profile_key = right_side.profile_key
    where not exists (
        select 1
        from staging.blocking_rules
        left join staging.capped_blocks
            on
                blocking_rules.rule_id = capped_blocks.rule_id
                and left_side.keys[blocking_rules.rule_id] = capped_blocks.key
        where
            left_side.keys[blocking_rules.rule_id]
            = right_side.keys[blocking_rules.rule_id]
            and (
                capped_blocks.key is null
                or left_side.profile_key <= capped_blocks.anchor_limit
            )
    );

    perform staging.find_shared_values(this_run, is_first_load);

    insert into staging.blocking_rule_metrics (
        run_id, rule_id, rule_name,
        pair_count, only_here_count, capped_block_count
    )
    select
        this_run,
        blocking_rules.rule_id,
        blocking_rules.rule_name,
        coalesce(found.pair_count, 0),
        coalesce(listed.only_here_count, 0),
        coalesce(capped.block_count, 0)
    from staging.blocking_rules
    left join (
        select
            found_pairs.rule_id,
            count(*) as pair_count
        from found_pairs
        group by found_pairs.rule_id
    ) as found on blocking_rules.rule_id = found.rule_id
    left join (
        select
            blocked.rule_id,
            count(*) as only_here_count
        from staging.identity_match_candidates_blocked as blocked
        where
            blocked.run_id = this_run
            and bit_count(blocked.rules::bit(32)) = 1
        group by blocked.rule_id
    ) as listed on blocking_rules.rule_id = listed.rule_id
    left join (
        select
            capped_blocks.rule_id,
            count(*) as block_count
        from staging.capped_blocks
        group by capped_blocks.rule_id
    ) as capped on blocking_rules.rule_id = capped.rule_id;

    if is_first_load then
        perform staging.index_blocking_keys();
    end if;
    return listed_count;
end
$function$;

-- One index per rule over its keys; made after the first load, kept since.
create or replace function staging.index_blocking_keys()
returns void
language plpgsql
as $function$
declare
    rule record;
begin
    for rule in
        select blocking_rules.rule_id
        from staging.blocking_rules
        order by blocking_rules.rule_id
    loop
        execute format(
            'create index if not exists %1$I on staging.blocking_keys '
            '((keys[%2$s])) where keys[%2$s] is not null',
            'blocking_keys_rule_' || rule.rule_id,
            rule.rule_id
        );
    end loop;
    analyze staging.blocking_keys;
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
