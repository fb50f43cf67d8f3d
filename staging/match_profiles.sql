-- Count profile_changes: one row per profile that gained or lost records.
-- run_id moves only with birth, death, and the second record of a profile:
-- what blocking has to look at.
update staging.match_profiles
set
    record_count = match_profiles.record_count + profile_changes.change,
    run_id = case
        when
            least(match_profiles.record_count, 2)
            <> least(match_profiles.record_count + profile_changes.change, 2)
            then %(run_id)s
        else match_profiles.run_id
    end
from profile_changes
where
    match_profiles.profile_key = profile_changes.profile_key
    and profile_changes.change <> 0;

insert into staging.match_profiles (
    profile_key,
    run_id,
    record_count,
    birth_date,
    email,
    email_mailbox,
    phone,
    given_name,
    family_name,
    address,
    city,
    postal_code,
    national_id
)
select
    profile_changes.profile_key,
    %(run_id)s,
    profile_changes.change,
    profile_changes.birth_date,
    profile_changes.email,
    profile_changes.email_mailbox,
    profile_changes.phone,
    profile_changes.given_name,
    profile_changes.family_name,
    profile_changes.address,
    profile_changes.city,
    profile_changes.postal_code,
    profile_changes.national_id
from profile_changes
where
    profile_changes.change > 0
    and not exists (
        select 1
        from staging.match_profiles
        where match_profiles.profile_key = profile_changes.profile_key
    )
order by profile_changes.profile_key;
