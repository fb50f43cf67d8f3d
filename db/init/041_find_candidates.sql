-- What has to be done around the pairs that matching/candidate_pairs.py makes:
-- profiles that died, and pairs that no rule finds any more.
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
        returning blocking_keys.*
    )

    select dead.*
    from dead;

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
    end if;
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
