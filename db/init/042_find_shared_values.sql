-- Values that many clearly different names share, and what was compared by them.

-- What tells clearly different names apart: the first letters of the family
-- name, else of the given name.
create or replace function staging.start_of_name(
    family_name text, given_name text
)
returns text
language sql immutable
as $function$
    select left(coalesce(family_name, given_name), 3)
$function$;

-- The compared pairs in force of the profiles in wanted_profiles (rows of
-- blocking_keys), into wanted_pairs. Both sides of a pair share a key, so pairs in which
-- the wanted one is on the right are found by the keys; under a key over the
-- limit the other side is an anchor.
create or replace function staging.find_wanted_pairs()
returns void
language plpgsql
as $function$
declare
    rule record;
begin
    analyze wanted_profiles;
    create temp table wanted_pairs on commit drop as
    select
        candidates.left_profile_key,
        candidates.right_profile_key
    from wanted_profiles
    inner join staging.compared_pairs as candidates
        on wanted_profiles.profile_key = candidates.left_profile_key
    where candidates.rules >= 0;
    for rule in
        select blocking_rules.rule_id
        from staging.blocking_rules
        order by blocking_rules.rule_id
    loop
        execute format(
            $sql$
            insert into wanted_pairs (left_profile_key, right_profile_key)
            with wanted as materialized (
                select
                    wanted_profiles.profile_key,
                    wanted_profiles.key_%1$s as key,
                    capped_blocks.anchor_limit,
                    capped_blocks.anchors
                from wanted_profiles
                left join staging.capped_blocks
                    on
                        capped_blocks.rule_id = %1$s
                        and wanted_profiles.key_%1$s = capped_blocks.key
                where wanted_profiles.key_%1$s is not null
            ),

            anchors as materialized (
                select
                    capped.key,
                    anchor.profile_key
                from (
                    select distinct
                        wanted.key,
                        wanted.anchor_limit,
                        wanted.anchors
                    from wanted
                    where wanted.anchor_limit is not null
                ) as capped
                cross join
                    unnest(
                        coalesce(
                            capped.anchors,
                            array(
                                select blocking_keys.profile_key
                                from staging.blocking_keys
                                where
                                    capped.key = blocking_keys.key_%1$s
                                    and capped.anchor_limit
                                    >= blocking_keys.profile_key
                            )
                        )
                    ) as anchor (profile_key)
            ),

            others as (
                select
                    wanted.profile_key,
                    blocking_keys.profile_key as other_profile_key
                from wanted
                inner join staging.blocking_keys
                    on wanted.key = blocking_keys.key_%1$s
                where wanted.anchor_limit is null
                union all
                select
                    wanted.profile_key,
                    anchors.profile_key
                from wanted
                inner join anchors on wanted.key = anchors.key
            )

            select
                candidates.left_profile_key,
                candidates.right_profile_key
            from others
            inner join staging.compared_pairs as candidates
                on
                    others.other_profile_key = candidates.left_profile_key
                    and others.profile_key = candidates.right_profile_key
            where
                others.other_profile_key < others.profile_key
                and candidates.rules >= 0
            $sql$,
            rule.rule_id
        );
    end loop;
end
$function$;

-- Find values that many clearly different names share, among those under the
-- keys in touched_keys (rule_id, key, is_large: may have at least 5 names): at
-- least 5 names, none with half of the profiles. A value that became shared, or
-- no longer is, has the pairs of its profiles compared again, also those in
-- which only one side has it.
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
        execute format(
            $sql$
            create temp table value_names on commit drop as
            with large as (
                select touched_keys.key
                from touched_keys
                where touched_keys.rule_id = %1$s and touched_keys.is_large
            ),

            names as (
                select
                    large.key,
                    profiles.value,
                    profiles.name,
                    count(*) as profiles
                from large
                inner join staging.blocking_keys
                    on large.key = blocking_keys.key_%1$s
                -- Few profiles are in large blocks, which the planner cannot know of
                -- keys that were just made; they are looked up one by one.
                cross join lateral (
                    select
                        match_profiles.%2$I as value,
                        staging.start_of_name(
                            match_profiles.family_name, match_profiles.given_name
                        ) as name
                    from staging.match_profiles
                    where match_profiles.profile_key = blocking_keys.profile_key
                    offset 0
                ) as profiles
                group by 1, 2, 3
            )

            select
                names.key,
                names.value,
                sum(names.profiles)::integer as profile_count,
                count(names.name)::integer as name_count,
                (
                    max(names.profiles) filter (where names.name is not null)
                    / sum(names.profiles) filter (where names.name is not null)
                )::real as top_name_share
            from names
            group by names.key, names.value
            having
                count(names.name) >= 5
                and max(names.profiles) filter (where names.name is not null)
                < 0.5
                * sum(names.profiles) filter (where names.name is not null)
            $sql$,
            rule, wanted
        );
        create temp table changed_values on commit drop as
        with gone as (
            delete from staging.shared_values
            using touched_keys
            where
                shared_values.attribute = wanted
                and touched_keys.rule_id = rule
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
        if not is_first_load and exists (select 1 from changed_values) then
            execute format(
                $sql$
                create temp table wanted_profiles on commit drop as
                select blocking_keys.*
                from changed_values
                inner join staging.blocking_keys
                    on changed_values.key = blocking_keys.key_%1$s
                inner join staging.match_profiles
                    on
                        blocking_keys.profile_key = match_profiles.profile_key
                        and changed_values.value = match_profiles.%2$I
                $sql$,
                rule, wanted
            );
            if exists (select 1 from wanted_profiles) then
                perform staging.find_wanted_pairs();
                insert into staging.candidate_lists (
                    run_id, left_profile_keys, right_profile_keys, rules
                )
                select
                    this_run,
                    array_agg(listed.left_profile_key),
                    array_agg(listed.right_profile_key),
                    array_agg(listed.rules)
                from (
                    select distinct
                        candidates.left_profile_key,
                        candidates.right_profile_key,
                        candidates.rules
                    from wanted_pairs
                    inner join staging.compared_pairs as candidates
                        on
                            wanted_pairs.left_profile_key
                            = candidates.left_profile_key
                            and wanted_pairs.right_profile_key
                            = candidates.right_profile_key
                    -- What waits to be withdrawn is not compared once more.
                    where
                        not exists (
                            select 1
                            from staging.identity_match_candidates_blocked as waiting
                            where
                                waiting.rules = -1
                                and candidates.left_profile_key
                                = waiting.left_profile_key
                                and candidates.right_profile_key
                                = waiting.right_profile_key
                        )
                ) as listed
                group by staging.pair_list(listed.left_profile_key);
                drop table wanted_pairs;
            end if;
            drop table wanted_profiles;
        end if;
        drop table value_names, changed_values;
    end loop;
end
$function$;
