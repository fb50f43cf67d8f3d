-- One row per changed source record: the profile it had and the one it has.
-- A record that says nothing about anybody is a profile of its own.
create temp table changed_inputs on commit drop as
with changed_records as (
    {changed_records}
),

known_inputs as (
    select
        identity_inputs.record_key,
        identity_inputs.profile_key as old_profile_key,
        identity_inputs.is_deleted as was_deleted
    from staging.identity_inputs
)

select
    changed_records.*,
    known_inputs.old_profile_key,
    known_inputs.was_deleted,
    case
        when num_nonnulls(
            changed_records.email,
            changed_records.phone,
            changed_records.given_name,
            changed_records.family_name,
            changed_records.birth_date,
            changed_records.address_key,
            changed_records.city_key,
            changed_records.postal_code,
            changed_records.national_id
        ) = 0 then changed_records.record_key
        else hash_record_extended(
            row(
                changed_records.email,
                changed_records.phone,
                changed_records.given_name,
                changed_records.family_name,
                changed_records.birth_date,
                changed_records.address_key,
                changed_records.city_key,
                changed_records.postal_code,
                changed_records.national_id
            ),
            0
        )
    end as profile_key
from changed_records
left join known_inputs
    on changed_records.record_key = known_inputs.record_key;

-- One row per source record of any source, as people read it.
insert into staging.identity_inputs (
    record_key,
    profile_key,
    run_id,
    is_deleted,
    event_ts,
    birth_date,
    source_system,
    record_id,
    email,
    phone,
    name,
    address,
    city,
    postal_code,
    national_id
)
select
    record_key,
    profile_key,
    %(run_id)s,
    is_deleted,
    event_ts,
    birth_date,
    source_system,
    record_id,
    email,
    phone,
    name,
    address,
    city,
    upper(postal_code) as postal_code,
    national_id
from changed_inputs
order by record_key
on conflict (record_key) do update
    set
        profile_key = excluded.profile_key,
        run_id = excluded.run_id,
        is_deleted = excluded.is_deleted,
        event_ts = excluded.event_ts,
        birth_date = excluded.birth_date,
        email = excluded.email,
        phone = excluded.phone,
        name = excluded.name,
        address = excluded.address,
        city = excluded.city,
        postal_code = excluded.postal_code,
        national_id = excluded.national_id;

-- One row per profile that gained or lost records.
create temp table profile_changes on commit drop as
with arrivals as (
    select
        profile_key,
        count(*) as records,
        min(record_key) as example_record_key
    from changed_inputs
    where not is_deleted
    group by profile_key
),

departures as (
    select
        old_profile_key as profile_key,
        count(*) as records
    from changed_inputs
    where not was_deleted
    group by old_profile_key
)

select
    coalesce(arrivals.profile_key, departures.profile_key) as profile_key,
    arrivals.example_record_key,
    (
        coalesce(arrivals.records, 0) - coalesce(departures.records, 0)
    )::integer as change
from arrivals
full outer join departures
    on arrivals.profile_key = departures.profile_key;

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
    changed_inputs.birth_date,
    changed_inputs.email,
    changed_inputs.email_mailbox,
    changed_inputs.phone,
    changed_inputs.given_name,
    changed_inputs.family_name,
    changed_inputs.address_key,
    changed_inputs.city_key,
    changed_inputs.postal_code,
    changed_inputs.national_id
from profile_changes
inner join changed_inputs
    on profile_changes.example_record_key = changed_inputs.record_key
where
    profile_changes.change > 0
    and not exists (
        select 1
        from staging.match_profiles
        where match_profiles.profile_key = profile_changes.profile_key
    )
order by profile_changes.profile_key;
