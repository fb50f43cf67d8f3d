-- What has to be done around the pairs that matching/candidate_pairs.py makes:
-- profiles that died, and pairs that no rule finds any more.
drop function if exists staging.pair_blocks(integer, smallint, integer, integer, boolean);
drop function if exists staging.find_candidates(integer, integer, integer);

-- Profiles that died since the mark lose their keys, into dead_keys, and their
-- pairs, compared or waiting to be: these would pass for pairs in force if the
-- profiles came back to blocks that are over the limit by then. Those that were
-- erased have lost theirs already; their keys tell which blocks to look at.
create or replace function staging.take_dead_keys(mark integer)
returns void
language plpgsql
as $function$
begin
    create temp table dead_keys on commit drop as
    with dead as (
        delete from staging.blocking_keys
        using staging.match_profiles
        where
            match_profiles.profile_key = blocking_keys.profile_key
            and match_profiles.run_id > mark
            and match_profiles.record_count = 0
        returning blocking_keys.*
    ),

    erased as (
        delete from staging.erased_blocking_keys
        returning erased_blocking_keys.*
    )

    select dead.*
    from dead
    union all
    select erased.*
    from erased;

    if exists (select 1 from dead_keys) then
        create temp table wanted_profiles on commit drop as
        select dead_keys.*
        from dead_keys;
        perform staging.find_wanted_pairs();
        delete from staging.compared_pairs as candidates
        using wanted_pairs
        where
            candidates.left_profile_key = wanted_pairs.left_profile_key
            and candidates.right_profile_key = wanted_pairs.right_profile_key;
        drop table wanted_profiles, wanted_pairs;
        create temp table unlisted on commit drop as
        select
            blocked.left_profile_key,
            blocked.right_profile_key
        from staging.identity_match_candidates_blocked as blocked
        where
            blocked.left_profile_key in (select dead_keys.profile_key from dead_keys)
            or blocked.right_profile_key in (select dead_keys.profile_key from dead_keys);
        perform staging.unlist_pairs(false);
        drop table unlisted;
    end if;
end
$function$;

-- Take the pairs in unlisted (left_profile_key, right_profile_key) off the lists,
-- and with_withdrawals also where it says that no rule finds them any more.
create or replace function staging.unlist_pairs(with_withdrawals boolean)
returns void
language plpgsql
as $function$
begin
    with touched as (
        delete from staging.candidate_lists as lists
        where
            lists.ctid in (
                select listed.ctid
                from staging.candidate_lists as listed
                cross join
                    lateral unnest(
                        listed.left_profile_keys, listed.right_profile_keys, listed.rules
                    ) as pairs (left_profile_key, right_profile_key, rules)
                inner join unlisted
                    on
                        pairs.left_profile_key = unlisted.left_profile_key
                        and pairs.right_profile_key = unlisted.right_profile_key
                where with_withdrawals or pairs.rules >= 0
            )
        returning lists.*
    )

    insert into staging.candidate_lists (
        run_id, left_profile_keys, right_profile_keys, rules
    )
    select
        touched.run_id,
        array_agg(pairs.left_profile_key),
        array_agg(pairs.right_profile_key),
        array_agg(pairs.rules)
    from touched
    cross join
        lateral unnest(
            touched.left_profile_keys, touched.right_profile_keys, touched.rules
        ) as pairs (left_profile_key, right_profile_key, rules)
    where
        not (with_withdrawals or pairs.rules >= 0)
        or not exists (
            select 1
            from unlisted
            where
                pairs.left_profile_key = unlisted.left_profile_key
                and pairs.right_profile_key = unlisted.right_profile_key
        )
    group by touched.run_id, staging.pair_list(pairs.left_profile_key);
end
$function$;

-- What no rule finds any more is not compared, though it was listed before.
create or replace function staging.unlist_unsupported_pairs(this_run integer)
returns void
language plpgsql
as $function$
begin
    create temp table unlisted on commit drop as
    select
        blocked.left_profile_key,
        blocked.right_profile_key
    from staging.identity_match_candidates_blocked as blocked
    where blocked.run_id = this_run and blocked.rule_id = -1;
    perform staging.unlist_pairs(false);
    drop table unlisted;
end
$function$;
