-- Why two records are, or are not, taken for one person.

-- One row per step of the score of a pair of records: the prior, each compared
-- attribute with both values, its level, m, u and weight, of which
-- term_frequency is the part due to how common the value is, and the chance
-- that they are two people of one household; with the running total (log2 odds)
-- and the match probability so far. What beats the score stands below it: what
-- has become of the link, and decisions of stewards about both records.
create or replace function identity.explain_pair(
    left_source text, left_record text, right_source text, right_record text
)
returns table (
    step integer,
    attribute text,
    left_value text,
    right_value text,
    level text,
    m double precision,
    u double precision,
    weight double precision,
    term_frequency double precision,
    running_total double precision,
    probability double precision
)
language plpgsql stable
as $function$
declare
    left_key constant bigint := identity.record_key(left_source, left_record);
    right_key constant bigint := identity.record_key(right_source, right_record);
    left_profile staging.match_profiles;
    right_profile staging.match_profiles;
    pair staging.identity_match_candidates;
    model jsonb;
    prior double precision;
    household_prior double precision;
    prior_weight double precision;
begin
    select match_profiles.*
    into left_profile
    from staging.identity_inputs
    inner join staging.match_profiles
        on identity_inputs.profile_key = match_profiles.profile_key
    where identity_inputs.record_key = left_key;
    select match_profiles.*
    into right_profile
    from staging.identity_inputs
    inner join staging.match_profiles
        on identity_inputs.profile_key = match_profiles.profile_key
    where identity_inputs.record_key = right_key;
    if left_profile.profile_key is null or right_profile.profile_key is null then
        raise exception 'no such record: %', case
            when left_profile.profile_key is null
                then left_source || ' ' || left_record
            else right_source || ' ' || right_record
        end
            using hint = 'Records are named as in identity.customer_identity_map: source_system, record_id.';
    end if;

    select candidates.*
    into pair
    from staging.identity_match_candidates as candidates
    where
        candidates.left_profile_key
        = least(left_profile.profile_key, right_profile.profile_key)
        and candidates.right_profile_key
        = greatest(left_profile.profile_key, right_profile.profile_key)
        and candidates.rule_id >= 0;
    if pair.left_profile_key is null then
        raise notice 'This pair was not compared: %', case
            when left_key = right_key then 'it is one record.'
            else 'no blocking rule brings the two records together.'
        end;
    else
        select match_models.parameters
        into model
        from identity.match_models
        where match_models.model_version = pair.model_version;
        prior := coalesce(
            (model ->> 'prior')::double precision,
            1.0 / greatest(2, (model ->> 'profiles')::double precision)
        );
        household_prior := coalesce(
            (model ->> 'household_prior')::double precision,
            least(0.25, (model ->> 'household')::double precision * prior)
        );
        prior_weight := log(
            2, (prior / (1 - prior - household_prior))::numeric
        );
    end if;

    return query
    with compared (attribute, left_value, right_value, level_number, score) as (
        values
        (
            'given_name', left_profile.given_name, right_profile.given_name,
            pair.given_name_level, pair.given_name_score
        ),
        (
            'family_name', left_profile.family_name, right_profile.family_name,
            pair.family_name_level, pair.family_name_score
        ),
        (
            'birth_date', left_profile.birth_date::text,
            right_profile.birth_date::text,
            pair.birth_date_level, pair.birth_date_score
        ),
        (
            'email', left_profile.email, right_profile.email,
            pair.email_level, pair.email_score
        ),
        (
            'phone', left_profile.phone, right_profile.phone,
            pair.phone_level, pair.phone_score
        ),
        (
            'address', left_profile.address, right_profile.address,
            pair.address_level, pair.address_score
        ),
        (
            'postal_code', left_profile.postal_code, right_profile.postal_code,
            pair.postal_code_level, pair.postal_code_score
        ),
        (
            'city', left_profile.city, right_profile.city,
            pair.city_level, pair.city_score
        ),
        (
            'national_id', left_profile.national_id, right_profile.national_id,
            pair.national_id_level, pair.national_id_score
        )
    ),

    levelled as (
        select
            compared.*,
            declared.level
        from compared
        left join lateral (
            select comparisons.comparison -> 'levels' -> (
                jsonb_array_length(comparisons.comparison -> 'levels')
                - 1 - compared.level_number
            ) as level
            from jsonb_array_elements(model -> 'comparisons')
                as comparisons (comparison)
            where comparisons.comparison ->> 'name' = compared.attribute
        ) as declared on true
    ),

    steps as (
        select
            0 as place,
            'prior' as attribute,
            null::text as left_value,
            null::text as right_value,
            'any two profiles' as level,
            null::double precision as m,
            null::double precision as u,
            prior_weight as weight,
            null::double precision as term_frequency
        where pair.left_profile_key is not null
        union all
        select
            row_number() over ()::integer,
            levelled.attribute,
            levelled.left_value,
            levelled.right_value,
            case
                when pair.left_profile_key is null then 'not compared'
                else coalesce(levelled.level ->> 'name', 'missing')
            end,
            (levelled.level ->> 'm')::double precision,
            (levelled.level ->> 'u')::double precision,
            coalesce(levelled.score, 0)::double precision,
            (
                levelled.score - log(
                    2,
                    (
                        (levelled.level ->> 'm')::numeric
                        / (levelled.level ->> 'u')::numeric
                    )
                )
            )::double precision
        from levelled
        where num_nonnulls(levelled.left_value, levelled.right_value) > 0
        union all
        select
            100,
            'household',
            null,
            null,
            'two people of one home?',
            null,
            null,
            pair.match_weight - prior_weight - (
                select coalesce(sum(compared.score), 0)
                from compared
            ),
            null
        where pair.left_profile_key is not null
        union all
        select
            101,
            'link',
            null,
            null,
            concat_ws(': ', links.status, replace(links.refused_reason, '_', ' ')),
            null,
            null,
            null,
            null
        from identity.match_links as links
        where
            links.left_profile_key = pair.left_profile_key
            and links.right_profile_key = pair.right_profile_key
        union all
        select distinct
            102,
            'decision',
            null,
            null,
            format(
                '%s, says decision %s of %s: %s',
                one.judgement,
                decisions.decision_id,
                decisions.steward,
                decisions.reason
            ),
            null::double precision,
            null::double precision,
            null::double precision,
            null::double precision
        from identity.active_steward_decisions as one
        inner join identity.active_steward_decisions as other
            on
                one.decision_id = other.decision_id
                and one.judgement = other.judgement
                and (one.judgement = 'same' or one.side <> other.side)
        inner join identity.steward_match_decisions as decisions
            on one.decision_id = decisions.decision_id
        where
            one.record_key = left_key
            and other.record_key = right_key
            and left_key <> right_key
    ),

    summed as (
        select
            steps.*,
            sum(steps.weight) over (order by steps.place) as total
        from steps
    )

    select
        row_number() over (order by summed.place, summed.level)::integer,
        summed.attribute,
        summed.left_value,
        summed.right_value,
        summed.level,
        summed.m,
        summed.u,
        round(summed.weight::numeric, 2)::double precision,
        round(summed.term_frequency::numeric, 2)::double precision,
        round(summed.total::numeric, 2)::double precision,
        case
            when pair.left_profile_key is not null
                then
                    round(
                        (
                            1 / (
                                1 + power(
                                    2.0, -greatest(
                                        -60, least(60, summed.total)
                                    )
                                )
                            )
                        )::numeric,
                        6
                    )::double precision
        end
    from summed
    order by summed.place, summed.level;
end
$function$;
comment on function identity.explain_pair is
'Why two records are, or are not, taken for one person: a row per step of their score, then what has become of their link, and the decisions in force about both';
