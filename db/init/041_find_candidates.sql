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

    -- What was compared with them would pass for a pair in force if they came
    -- back to blocks that are over the limit by then.
    if exists (select 1 from dead_keys) then
        create temp table wanted_profiles on commit drop as
        select
            dead_keys.profile_key,
            dead_keys.keys
        from dead_keys;
        perform staging.find_wanted_pairs();
        delete from staging.identity_match_candidates as candidates
        using wanted_pairs
        where
            candidates.left_profile_key = wanted_pairs.left_profile_key
            and candidates.right_profile_key = wanted_pairs.right_profile_key;
        drop table wanted_profiles, wanted_pairs;
    end if;

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

    -- What no rule finds any more is not compared, though it was listed before.
    if exists (select 1 from stale_pairs) then
        delete from staging.identity_match_candidates_blocked as listed
        using staging.identity_match_candidates_blocked as withdrawn
        where
            withdrawn.run_id = this_run
            and withdrawn.rule_id = -1
            and listed.rule_id >= 0
            and listed.left_profile_key = withdrawn.left_profile_key
            and listed.right_profile_key = withdrawn.right_profile_key;
    end if;

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
