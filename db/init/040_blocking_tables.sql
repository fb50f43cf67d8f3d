-- Blocking: which profiles are worth comparing.

create table if not exists staging.blocking_rules (
    rule_id smallint primary key,
    rule_name text not null unique,
    key_terms text[] not null,
    block_limit integer not null check (block_limit >= 2)
);
alter table staging.blocking_rules add column if not exists give_up integer;
comment on table staging.blocking_rules is
'One row per blocking rule of matching/model.toml, in order';

-- The keys were other ones once. With them the rules are forgotten, so that phase 4.5 makes all keys anew.
do $migration$
begin
    if exists (
        select from pg_attribute
        where
            attrelid = to_regclass('staging.blocking_keys')
            and (attname = 'keys' or (attname = 'key_1' and atttypid = 'bigint'::regtype))
    ) then
        drop function if exists staging.keys_by_rule(staging.blocking_keys);
        drop table staging.blocking_keys;
        drop table if exists staging.erased_blocking_keys;
        delete from staging.blocking_rules;
    end if;
end
$migration$;

create table if not exists staging.blocking_keys (
    profile_key bigint not null,
    key_1 integer,
    key_2 integer,
    key_3 integer,
    key_4 integer,
    key_5 integer,
    key_6 integer,
    key_7 integer,
    key_8 integer,
    key_9 integer,
    key_10 integer,
    key_11 integer,
    key_12 integer,
    key_13 integer,
    key_14 integer,
    key_15 integer,
    key_16 integer,
    key_17 integer,
    key_18 integer,
    key_19 integer,
    key_20 integer,
    key_21 integer,
    key_22 integer,
    key_23 integer,
    key_24 integer,
    key_25 integer,
    key_26 integer,
    key_27 integer,
    key_28 integer,
    key_29 integer,
    key_30 integer,
    key_31 integer
);
alter table staging.blocking_keys
drop column if exists run_id,
drop constraint if exists blocking_keys_pkey;
-- The key, as an index that can be built beside other work.
create unique index if not exists blocking_keys_key
on staging.blocking_keys (profile_key);
comment on table staging.blocking_keys is
'One row per live profile: the hash of its key under each blocking rule, key_1 for the rule with rule_id 1; null where the rule says nothing';

create table if not exists staging.erased_blocking_keys (like staging.blocking_keys);
comment on table staging.erased_blocking_keys is
'One row per profile that went with an erased person since phase 4.5 last looked at its blocks: its row of blocking_keys';

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
'One row per blocking key shared by more profiles than the limit: its profiles are paired with its anchors only, those with a profile_key up to anchor_limit; where the rule gives up, with none';
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

-- The first of the rules that found a pair; 0 and -1 stand for themselves.
create or replace function staging.first_rule(rules integer)
returns smallint
language sql immutable parallel safe
return case
    when rules > 0 then bit_count(((rules & -rules) - 1)::bit(32)) + 1
    else rules
end::smallint;

-- Pairs are handed on thousands to a row: a row each would take most of the time of writing and reading them. What is
-- read once is not compressed.
create table if not exists staging.candidate_lists (
    run_id integer not null,
    left_profile_keys bigint[] not null,
    right_profile_keys bigint[] not null,
    rules integer[] not null,
    check (
        cardinality(left_profile_keys) = cardinality(right_profile_keys)
        and cardinality(left_profile_keys) = cardinality(rules)
    )
);
alter table staging.candidate_lists
alter column left_profile_keys set storage external,
alter column right_profile_keys set storage external,
alter column rules set storage external,
-- Phase 4.5 analyzes what it writes and phase 5 truncates it: autovacuum would but read it all once more between them.
set (autovacuum_enabled = false, toast.autovacuum_enabled = false);
comment on table staging.candidate_lists is
'One row per list of candidate pairs that wait to be compared; to read, see identity_match_candidates_blocked';

-- Which pairs SQL puts into one list: those whose left keys, which are hashes, have the first byte in common.
create or replace function staging.pair_list(left_profile_key bigint)
returns bigint
language sql immutable parallel safe
return left_profile_key >> 56;

-- Each candidate pair once was a row.
do $migration$
begin
    if not identity.is_still_table('staging.identity_match_candidates_blocked') then
        return;
    end if;
    insert into staging.candidate_lists (run_id, left_profile_keys, right_profile_keys, rules)
    select
        run_id,
        array_agg(left_profile_key),
        array_agg(right_profile_key),
        array_agg(case when rule_id > 0 then rules else rule_id end)
    from staging.identity_match_candidates_blocked
    group by run_id, staging.pair_list(left_profile_key);
    drop table staging.identity_match_candidates_blocked;
end
$migration$;

create or replace view staging.identity_match_candidates_blocked as
select
    pairs.left_profile_key,
    pairs.right_profile_key,
    lists.run_id,
    pairs.rules,
    staging.first_rule(pairs.rules) as rule_id
from staging.candidate_lists as lists
cross join
    lateral unnest(lists.left_profile_keys, lists.right_profile_keys, lists.rules)
        as pairs (left_profile_key, right_profile_key, rules);
comment on view staging.identity_match_candidates_blocked is
'One row per candidate pair that waits to be compared and the first rule that found it. Rule 0: a profile that several records share, paired with itself. Rule -1: a pair no rule finds any more';
comment on column staging.identity_match_candidates_blocked.rules is
'All rules that found the pair: bit n - 1 for rule n; 0 and -1 as rule_id';

-- What a comparison says about one attribute: the level plus 1 (0: missing on a side) in 4 bits, then the match
-- weight in thousandths, plus 65536, in 17. Three attributes are a bigint, the first in the lowest bits; so nine
-- take the room of three columns, and a pair that of a third of its columns.
create or replace function staging.packed_comparison(level smallint, score real, place integer)
returns bigint
language sql immutable parallel safe
return (
    (coalesce(level, -1) + 1)::bigint
    + (round(least(greatest(coalesce(score, 0), -65), 65)::numeric * 1000)::bigint + 65536) * 16
) << (21 * place);

create or replace function staging.comparison_level(packed bigint, place integer)
returns smallint
language sql immutable parallel safe
return nullif((packed >> (21 * place)) & 15, 0)::smallint - 1::smallint;

create or replace function staging.comparison_score(packed bigint, place integer)
returns real
language sql immutable parallel safe
return case
    when (packed >> (21 * place)) & 15 > 0
        then ((((packed >> (21 * place + 4)) & 131071) - 65536) / 1000.0::double precision)::real
end;

create table if not exists staging.compared_pairs (
    left_profile_key bigint not null,
    right_profile_key bigint not null,
    email_phone_given_name bigint not null,
    family_name_birth_date_address bigint not null,
    city_postal_code_national_id bigint not null,
    run_id integer not null,
    match_weight real not null check (match_weight between -100 and 100),
    decision smallint not null check (decision between 0 and 2),
    rules integer not null,
    check (left_profile_key <= right_profile_key)
);
-- The decision once was an enumeration, which takes longer to write. What shows it is made again below and in
-- 080_quality.sql.
do $migration$
begin
    if not exists (
        select from pg_attribute
        where attrelid = 'staging.compared_pairs'::regclass and attname = 'match_decision'
    ) then
        return;
    end if;
    drop view if exists gold.steward_review_queue, identity.match_links, staging.identity_match_candidates;
    drop index if exists staging.compared_pairs_flagged;
    alter table staging.compared_pairs alter column match_decision type smallint
    using case match_decision when 'AUTO_MERGE' then 2 when 'FLAG_REVIEW' then 1 else 0 end;
    alter table staging.compared_pairs rename column match_decision to decision;
    alter table staging.compared_pairs
    add constraint compared_pairs_decision_check check (decision between 0 and 2);
    analyze staging.compared_pairs;
end
$migration$;
-- The key, as an index that can be built beside other work.
alter table staging.compared_pairs drop constraint if exists compared_pairs_pkey;
create unique index if not exists compared_pairs_key
on staging.compared_pairs (left_profile_key, right_profile_key);
comment on table staging.compared_pairs is
'One row per compared pair of profiles, its newest comparison by the current model; to read, see identity_match_candidates';
comment on column staging.compared_pairs.decision is
'2: AUTO_MERGE, 1: FLAG_REVIEW, 0: REJECT';
comment on column staging.compared_pairs.rules is
'All rules that found the pair: bit n - 1 for rule n. 0: a profile that several records share, compared with itself. -1: no rule finds the pair any more';

-- The pairs once stood in two tables, one with a column for each number, the other with a copy of those that merge.
do $migration$
begin
    if not identity.is_still_table('staging.identity_match_candidates') then
        return;
    end if;
    insert into staging.compared_pairs
    select
        left_profile_key,
        right_profile_key,
        staging.packed_comparison(email_level, email_score, 0)
        | staging.packed_comparison(phone_level, phone_score, 1)
        | staging.packed_comparison(given_name_level, given_name_score, 2),
        staging.packed_comparison(family_name_level, family_name_score, 0)
        | staging.packed_comparison(birth_date_level, birth_date_score, 1)
        | staging.packed_comparison(address_level, address_score, 2),
        staging.packed_comparison(city_level, city_score, 0)
        | staging.packed_comparison(postal_code_level, postal_code_score, 1)
        | staging.packed_comparison(national_id_level, national_id_score, 2),
        run_id,
        match_weight,
        case match_decision when 'AUTO_MERGE' then 2 when 'FLAG_REVIEW' then 1 else 0 end,
        case rule_id when -1 then -1 when 0 then 0 else rules end
    from staging.identity_match_candidates;
    insert into identity.refused_links (
        left_profile_key, right_profile_key, run_id, match_weight, refused_reason
    )
    select left_profile_key, right_profile_key, run_id, match_weight, refused_reason
    from identity.match_links
    where status = 'refused';
    -- Both are made again below and in 080_quality.sql.
    drop view if exists gold.steward_review_queue;
    drop table identity.match_links, staging.identity_match_candidates;
    analyze staging.compared_pairs, identity.refused_links;
end
$migration$;

select identity.index_run_id('staging.compared_pairs');
-- What waits for a steward, the likeliest first.
create index if not exists compared_pairs_flagged
on staging.compared_pairs (match_weight desc) where decision = 1;

create or replace view staging.identity_match_candidates as
select
    pairs.left_profile_key,
    pairs.right_profile_key,
    pairs.run_id,
    (
        select match_models.model_version
        from identity.match_models
        where match_models.is_current
    ) as model_version,
    pairs.match_weight,
    (100 / (1 + power(2::double precision, -pairs.match_weight)))::real as total_confidence_score,
    case pairs.decision
        when 2 then 'AUTO_MERGE'::identity.match_decision
        when 1 then 'FLAG_REVIEW'
        else 'REJECT'
    end as match_decision,
    staging.comparison_score(pairs.email_phone_given_name, 0) as email_score,
    staging.comparison_score(pairs.email_phone_given_name, 1) as phone_score,
    staging.comparison_score(pairs.email_phone_given_name, 2) as given_name_score,
    staging.comparison_score(pairs.family_name_birth_date_address, 0) as family_name_score,
    staging.comparison_score(pairs.family_name_birth_date_address, 1) as birth_date_score,
    staging.comparison_score(pairs.family_name_birth_date_address, 2) as address_score,
    staging.comparison_score(pairs.city_postal_code_national_id, 0) as city_score,
    staging.comparison_score(pairs.city_postal_code_national_id, 1) as postal_code_score,
    staging.comparison_score(pairs.city_postal_code_national_id, 2) as national_id_score,
    pairs.rules,
    staging.first_rule(pairs.rules) as rule_id,
    staging.comparison_level(pairs.email_phone_given_name, 0) as email_level,
    staging.comparison_level(pairs.email_phone_given_name, 1) as phone_level,
    staging.comparison_level(pairs.email_phone_given_name, 2) as given_name_level,
    staging.comparison_level(pairs.family_name_birth_date_address, 0) as family_name_level,
    staging.comparison_level(pairs.family_name_birth_date_address, 1) as birth_date_level,
    staging.comparison_level(pairs.family_name_birth_date_address, 2) as address_level,
    staging.comparison_level(pairs.city_postal_code_national_id, 0) as city_level,
    staging.comparison_level(pairs.city_postal_code_national_id, 1) as postal_code_level,
    staging.comparison_level(pairs.city_postal_code_national_id, 2) as national_id_level
from staging.compared_pairs as pairs;
comment on view staging.identity_match_candidates is
'One row per compared pair of profiles, its newest comparison. *_level: the comparison level, 0 is else, null is missing on a side; *_score: its match weight with the term-frequency part (log2); total_confidence_score: match probability in percent; rule_id: the first rule that found it, 0 for a profile that several records share, compared with itself, -1 where no rule finds it any more';

-- Flagged pairs merge at once where phase 6 last worked so.
create or replace view identity.match_links as
select
    candidates.left_profile_key,
    candidates.right_profile_key,
    case
        when refused_links.refused_reason is not null then 'refused'
        when candidates.match_decision = 'AUTO_MERGE' then 'standing'
        when (
            select watermarks.configuration like '%merge_flagged True'
            from identity.ingestion_watermarks as watermarks
            where
                watermarks.phase = 'run_identity_resolution'
                and watermarks.upstream = 'staging.identity_match_candidates'
        ) then 'standing'
        else 'waiting'
    end::identity.link_status as status,
    candidates.match_decision,
    candidates.match_weight,
    candidates.total_confidence_score,
    coalesce(refused_links.run_id, candidates.run_id) as run_id,
    refused_links.refused_reason
from staging.identity_match_candidates as candidates
left join identity.refused_links
    on
        candidates.left_profile_key = refused_links.left_profile_key
        and candidates.right_profile_key = refused_links.right_profile_key
where
    candidates.match_decision in ('AUTO_MERGE', 'FLAG_REVIEW')
    and candidates.left_profile_key < candidates.right_profile_key;
comment on view identity.match_links is
'One row per edge of the graph of profiles: standing (merges), waiting (for a steward), refused (with the reason); levels and weights in staging.identity_match_candidates';

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

create table if not exists staging.compared_pair_counts (
    run_id integer not null,
    rule_id smallint not null,
    match_decision identity.match_decision not null,
    score_from smallint not null check (score_from between 0 and 95),
    pair_count bigint not null,
    primary key (run_id, rule_id, match_decision, score_from)
);
comment on table staging.compared_pair_counts is
'One row per run, first rule that found a pair, decision and twentieth of the confidence score (score_from up to 5 more): pairs compared in the run, those of a profile with itself left out';

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
        col := case
            when wanted = 'email_mailbox' then 'coalesce(p.email_mailbox, p.email)'
            else format('p.%I', wanted)
        end;
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
        by_rule.key::bigint
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

-- See to it that there will be an index over the keys of each of these rules.
drop function if exists staging.index_blocking_keys();
drop function if exists staging.index_blocking_keys(smallint[]);
create or replace function staging.leave_key_indexes(rule_ids smallint[])
returns void
language sql
as $function$
    insert into gold.indexes_to_build (index_name, table_name, definition)
    select
        'staging.blocking_keys_rule_' || rule.rule_id as index_name,
        'staging.blocking_keys' as table_name,
        format(
            'create index %1$I on staging.blocking_keys (%2$I) where %2$I is not null',
            'blocking_keys_rule_' || rule.rule_id,
            'key_' || rule.rule_id
        ) as definition
    from unnest(rule_ids) as rule (rule_id)
    where to_regclass('staging.blocking_keys_rule_' || rule.rule_id) is null
    on conflict do nothing
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
    delete from gold.indexes_to_build
    where indexes_to_build.table_name = 'staging.blocking_keys';
    truncate
        staging.blocking_keys,
        staging.erased_blocking_keys,
        staging.capped_blocks,
        staging.shared_values,
        staging.candidate_lists,
        staging.compared_pairs;
    delete from staging.blocking_rules;
end
$function$;
