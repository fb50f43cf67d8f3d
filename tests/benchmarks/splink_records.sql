-- One row per live source record: the cleaned attributes that are matched. Values that many clearly different
-- names share are left out, as a user of Splink would have to find and leave them out himself.
select
    identity_inputs.record_key as unique_id,
    match_profiles.given_name,
    match_profiles.family_name,
    case when shared_emails.value is null then match_profiles.email end as email,
    case when shared_phones.value is null then match_profiles.phone end as phone,
    match_profiles.birth_date,
    match_profiles.address,
    match_profiles.city,
    match_profiles.postal_code,
    match_profiles.national_id
from staging.identity_inputs
inner join staging.match_profiles
    on identity_inputs.profile_key = match_profiles.profile_key
left join staging.shared_values as shared_emails
    on shared_emails.attribute = 'email' and match_profiles.email = shared_emails.value
left join staging.shared_values as shared_phones
    on shared_phones.attribute = 'phone' and match_profiles.phone = shared_phones.value
where not identity_inputs.is_deleted
