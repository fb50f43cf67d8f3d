-- One row per profile that gained or lost records. Records of one profile agree
-- in all that is matched, so any of them gives its values.
create temp table profile_changes on commit drop as
with changed_records as (
    {changed_records}
),

arrivals as (
    select
        profile_key,
        count(*)::integer as records,
        any_value(birth_date) as birth_date,
        any_value(email) as email,
        any_value(email_mailbox) as email_mailbox,
        any_value(phone) as phone,
        any_value(given_name) as given_name,
        any_value(family_name) as family_name,
        any_value(address_key) as address,
        any_value(city_key) as city,
        any_value(postal_code) as postal_code,
        any_value(national_id) as national_id
    from changed_records
    where not is_deleted
    group by profile_key
),

-- What came after the last count was not counted.
departures as (
    select
        profile_key,
        count(*)::integer as records
    from staging.replaced_versions
    where run_id <= %(counted_run_id)s
    group by profile_key
)

select
    coalesce(arrivals.profile_key, departures.profile_key) as profile_key,
    coalesce(arrivals.records, 0) - coalesce(departures.records, 0) as change,
    arrivals.birth_date,
    arrivals.email,
    arrivals.email_mailbox,
    arrivals.phone,
    arrivals.given_name,
    arrivals.family_name,
    arrivals.address,
    arrivals.city,
    arrivals.postal_code,
    arrivals.national_id
from arrivals
full outer join departures
    on arrivals.profile_key = departures.profile_key;

truncate staging.replaced_versions;

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
