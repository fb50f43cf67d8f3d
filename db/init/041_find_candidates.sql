-- What has to be done around the pairs that matching/candidate_pairs.py makes:
-- profiles that died, and pairs that no rule supports any more.
drop function if exists staging.pair_blocks(integer, smallint, integer, integer, boolean);
drop function if exists staging.find_candidates(integer, integer, integer);

-- Profiles that died since the mark lose their keys, into dead_keys, and their
-- compared pairs: these would pass for pairs in force if the profiles came back
-- to blocks that are over the limit by then.
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
        returning blocking_keys.profile_key, blocking_keys.keys
    )

    select
        dead.profile_key,
        dead.keys
    from dead;

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
end
$function$;

-- What was compared before in a block that is over the limit and has a new
-- shape may have lost its support: what no rule finds any more is listed as
-- rule -1. Takes the members of such blocks that are no anchors in
-- reshaped_members (rule_id, key, profile_key).
create or replace function staging.list_unsupported_pairs(this_run integer)
returns void
language plpgsql
as $function$
begin
    insert into staging.identity_match_candidates_blocked (
        left_profile_key, right_profile_key, run_id, rules, rule_id
    )
    with stale_pairs as (
        select distinct
            candidates.left_profile_key,
            candidates.right_profile_key,
            left_side.keys as left_keys,
            right_side.keys as right_keys
        from reshaped_members
        inner join staging.identity_match_candidates as candidates
            on reshaped_members.profile_key = candidates.left_profile_key
        inner join staging.blocking_keys as left_side
            on candidates.left_profile_key = left_side.profile_key
        inner join staging.blocking_keys as right_side
            on candidates.right_profile_key = right_side.profile_key
        where
            right_side.keys[reshaped_members.rule_id] = reshaped_members.key
            and candidates.rule_id > 0
    )

    select
        stale_pairs.left_profile_key,
        stale_pairs.right_profile_key,
        this_run,
        0,
        -1::smallint
    from stale_pairs
    where not exists (
        select 1
        from staging.blocking_rules
        left join staging.capped_blocks
            on
                blocking_rules.rule_id = capped_blocks.rule_id
                and stale_pairs.left_keys[blocking_rules.rule_id]
                = capped_blocks.key
        where
            stale_pairs.left_keys[blocking_rules.rule_id]
            = stale_pairs.right_keys[blocking_rules.rule_id]
            and (
                capped_blocks.key is null
                or stale_pairs.left_profile_key <= capped_blocks.anchor_limit
            )
    );
end
$function$;

-- What no rule finds any more is not compared, though it was listed before.
create or replace function staging.unlist_unsupported_pairs(this_run integer)
returns void
language sql
as $function$
    delete from staging.identity_match_candidates_blocked as listed
    using staging.identity_match_candidates_blocked as withdrawn
    where
        withdrawn.run_id = this_run
        and withdrawn.rule_id = -1
        and listed.rule_id >= 0
        and listed.left_profile_key = withdrawn.left_profile_key
        and listed.right_profile_key = withdrawn.right_profile_key
$function$;
