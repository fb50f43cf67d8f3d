-- One row per compared pair: its newest comparison replaces an older one.
insert into staging.identity_match_candidates
select compared.*
from compared
order by compared.left_profile_key, compared.right_profile_key
on conflict (left_profile_key, right_profile_key) do update
    set
        run_id = excluded.run_id,
        model_version = excluded.model_version,
        match_weight = excluded.match_weight,
        total_confidence_score = excluded.total_confidence_score,
        match_decision = excluded.match_decision,
        email_score = excluded.email_score,
        phone_score = excluded.phone_score,
        given_name_score = excluded.given_name_score,
        family_name_score = excluded.family_name_score,
        birth_date_score = excluded.birth_date_score,
        address_score = excluded.address_score,
        city_score = excluded.city_score,
        postal_code_score = excluded.postal_code_score,
        national_id_score = excluded.national_id_score,
        rules = excluded.rules,
        rule_id = excluded.rule_id,
        email_level = excluded.email_level,
        phone_level = excluded.phone_level,
        given_name_level = excluded.given_name_level,
        family_name_level = excluded.family_name_level,
        birth_date_level = excluded.birth_date_level,
        address_level = excluded.address_level,
        city_level = excluded.city_level,
        postal_code_level = excluded.postal_code_level,
        national_id_level = excluded.national_id_level
