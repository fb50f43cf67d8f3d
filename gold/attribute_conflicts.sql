-- One row per customer and attribute whose values contradict each other, among the customers changed since the mark.
-- birth_date, national_id, name: values no typo explains (high). email, phone, postal_code: two values that different
-- sources say again and again, each before the last of the other and after its first, so neither replaced the other
-- (low).
-- What a steward has overridden is settled.
create unlogged table gold.working_customers as
select customers.global_customer_id
from identity.customers
where customers.run_id > %(mark)s
union all
select distinct customers.global_customer_id
from gold.customer_steward_overrides as overrides
inner join identity.customers
    on identity.current_customer_id(overrides.global_customer_id) = customers.global_customer_id
where
    (overrides.applied_run_id > %(mark)s or overrides.retired_run_id > %(mark)s)
    and customers.run_id <= %(mark)s;

analyze gold.working_customers;

create temp table found_conflicts on commit drop as
-- A customer with hundreds of spellings is judged by the twenty most said.
with claims as (
    select ranked.*
    from (
        select
            attribute_values.global_customer_id,
            attribute_values.attribute::text as attribute,
            attribute_values.value,
            attribute_values.sources,
            attribute_values.record_count,
            attribute_values.first_seen,
            attribute_values.last_seen,
            row_number() over most_said as place,
            count(*) over (
                partition by
                    attribute_values.global_customer_id,
                    attribute_values.attribute
            ) as value_count
        from gold.working_customers
        inner join gold.customer_attribute_values as attribute_values
            on
                working_customers.global_customer_id
                = attribute_values.global_customer_id
        where
            -- Nobody contradicts an only value, nor one said once what alternates.
            attribute_values.rule <> 'only_value'
            and case
                when attribute_values.attribute in ('birth_date', 'national_id', 'name')
                    then attribute_values.record_count > 0
                when attribute_values.attribute in ('email', 'phone', 'postal_code')
                    then attribute_values.record_count > 1
                else false
            end
        window most_said as (
            partition by
                attribute_values.global_customer_id,
                attribute_values.attribute
            order by
                attribute_values.record_count desc,
                attribute_values.last_seen desc,
                attribute_values.value
        )
    ) as ranked
    where
        ranked.value_count > 1
        and ranked.place <= 20
),

contradictions as (
    select
        left_claim.global_customer_id,
        left_claim.attribute,
        left_claim.value as left_value,
        right_claim.value as right_value
    from claims as left_claim
    inner join claims as right_claim
        on
            left_claim.global_customer_id = right_claim.global_customer_id
            and left_claim.attribute = right_claim.attribute
            and left_claim.place < right_claim.place
    where
        case left_claim.attribute
            when 'birth_date'
                then
                    levenshtein(left_claim.value, right_claim.value) > 1
                    -- Digits or parts in another order: a slip of the hand.
                    and left(left_claim.value, 4)
                    || right(left_claim.value, 2)
                    || substr(left_claim.value, 6, 2)
                    <> left(right_claim.value, 4)
                    || substr(right_claim.value, 6, 2)
                    || right(right_claim.value, 2)
                    -- The first of January stands for a year alone.
                    and not (
                        left(left_claim.value, 4) = left(right_claim.value, 4)
                        and '01-01' in (
                            right(left_claim.value, 5), right(right_claim.value, 5)
                        )
                    )
            when 'national_id'
                then
                    levenshtein(
                        left(left_claim.value, 60), left(right_claim.value, 60)
                    ) > 2
            when 'name'
                then
                    -- No initial, no beginning of a word and no sound in common. The
                    -- first character is an initial, and most names differ in the others.
                    left(lower(left_claim.value), 1) <> left(lower(right_claim.value), 1)
                    and (
                        select translate(left_said.initials, right_said.initials, '') = left_said.initials
                        from
                            regexp_replace(lower(left_claim.value), '(\w)\w*\W*', '\1', 'g')
                                as left_said (initials),
                            regexp_replace(lower(right_claim.value), '(\w)\w*\W*', '\1', 'g')
                                as right_said (initials)
                    )
                    and not exists (
                        select 1
                        from string_to_table(left_claim.value, ' ') as left_word
                        inner join
                            string_to_table(right_claim.value, ' ') as right_word
                            on
                                metaphone(left(left_word, 60), 6)
                                = metaphone(left(right_word, 60), 6)
                                or strpos(
                                    lower(right_word), lower(left(left_word, 3))
                                ) > 0
                                or strpos(
                                    lower(left_word), lower(left(right_word, 3))
                                ) > 0
                    )
            else
                left_claim.first_seen < right_claim.last_seen
                and right_claim.first_seen < left_claim.last_seen
                and not (
                    left_claim.sources = right_claim.sources
                    and cardinality(left_claim.sources) = 1
                )
        end
),

parties as (
    select
        contradictions.global_customer_id,
        contradictions.attribute,
        contradictions.left_value as value
    from contradictions
    union
    select
        contradictions.global_customer_id,
        contradictions.attribute,
        contradictions.right_value as value
    from contradictions
)

select
    claims.global_customer_id,
    claims.attribute,
    count(*)::integer as value_count,
    (
        select array_agg(distinct said.source order by said.source)
        from unnest(
            string_to_array(
                string_agg(array_to_string(claims.sources, ','), ','), ','
            )
        ) as said (source)
    ) as sources,
    jsonb_agg(
        jsonb_build_object(
            'value', claims.value,
            'sources', claims.sources,
            'records', claims.record_count,
            'first_seen', claims.first_seen,
            'last_seen', claims.last_seen
        )
        order by claims.place
    ) as claims
from parties
inner join claims
    on
        parties.global_customer_id = claims.global_customer_id
        and parties.attribute = claims.attribute
        and parties.value = claims.value
left join gold.standing_overrides
    on
        claims.global_customer_id = standing_overrides.global_customer_id
        and claims.attribute = standing_overrides.attribute::text
        and standing_overrides.is_winner
where standing_overrides.override_id is null
group by claims.global_customer_id, claims.attribute;

-- Resolved: the customer changed, and the contradiction is not found again.
delete from gold.customer_attribute_conflicts as known
using gold.working_customers
where
    known.global_customer_id = working_customers.global_customer_id
    and not exists (
        select 1
        from found_conflicts
        where
            found_conflicts.global_customer_id = known.global_customer_id
            and found_conflicts.attribute = known.attribute
    );

insert into gold.customer_attribute_conflicts as known (
    global_customer_id,
    attribute,
    kind,
    severity,
    value_count,
    sources,
    claims,
    run_id
)
select
    found_conflicts.global_customer_id,
    found_conflicts.attribute,
    case
        when
            found_conflicts.attribute in ('birth_date', 'national_id', 'name')
            then 'different_' || found_conflicts.attribute
        else 'alternating_' || found_conflicts.attribute
    end as kind,
    case
        when
            found_conflicts.attribute in ('birth_date', 'national_id', 'name')
            then 'high'
        else 'low'
    end as severity,
    found_conflicts.value_count,
    found_conflicts.sources,
    found_conflicts.claims,
    %(run_id)s as run_id
from found_conflicts
on conflict (global_customer_id, attribute) do update
    set
        value_count = excluded.value_count,
        sources = excluded.sources,
        claims = excluded.claims,
        run_id = excluded.run_id
    where known.claims <> excluded.claims;
