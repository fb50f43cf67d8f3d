-- One row per customer and attribute whose values contradict each other, among the customers changed since the mark.
-- birth_date, national_id, name: values no typo explains (high). email, phone, postal_code: two values that different
-- sources say again and again, each before the last of the other and after its first, so neither replaced the other
-- (low).
-- What a steward has overridden is settled.
create unlogged table gold.working_customers as
select
    customers.global_customer_id,
    customers.record_count
from identity.customers
where customers.run_id > %(identity_mark)s
union all
select distinct
    customers.global_customer_id,
    customers.record_count
from gold.customer_steward_overrides as overrides
inner join identity.customers
    on identity.current_customer_id(overrides.global_customer_id) = customers.global_customer_id
where
    (
        overrides.applied_run_id > %(overrides_mark)s
        or overrides.retired_run_id > %(overrides_mark)s
    )
    and customers.run_id <= %(identity_mark)s;

analyze gold.working_customers;

create temp table contradictions on commit drop as
-- A customer with hundreds of spellings, who has as many records, is judged by the twenty most said.
with crowd_claims as (
    select
        claims.*,
        row_number() over (
            partition by claims.global_customer_id, claims.attribute
            order by claims.record_count desc, claims.last_seen desc, claims.value
        ) as place
    from gold.working_customers
    inner join gold.customer_claims as claims
        on working_customers.global_customer_id = claims.global_customer_id
    where working_customers.record_count > 20
),

pairs as (
    select
        left_claim.global_customer_id,
        left_claim.attribute,
        left_claim.value as left_value,
        left_claim.sources as left_sources,
        left_claim.record_count as left_record_count,
        left_claim.first_seen as left_first_seen,
        left_claim.last_seen as left_last_seen,
        right_claim.value as right_value,
        right_claim.sources as right_sources,
        right_claim.record_count as right_record_count,
        right_claim.first_seen as right_first_seen,
        right_claim.last_seen as right_last_seen
    from gold.working_customers
    inner join gold.customer_claims as left_claim
        on working_customers.global_customer_id = left_claim.global_customer_id
    inner join gold.customer_claims as right_claim
        on
            left_claim.global_customer_id = right_claim.global_customer_id
            and left_claim.attribute = right_claim.attribute
            and left_claim.value < right_claim.value
    where working_customers.record_count <= 20
    union all
    select
        left_claim.global_customer_id,
        left_claim.attribute,
        left_claim.value as left_value,
        left_claim.sources as left_sources,
        left_claim.record_count as left_record_count,
        left_claim.first_seen as left_first_seen,
        left_claim.last_seen as left_last_seen,
        right_claim.value as right_value,
        right_claim.sources as right_sources,
        right_claim.record_count as right_record_count,
        right_claim.first_seen as right_first_seen,
        right_claim.last_seen as right_last_seen
    from crowd_claims as left_claim
    inner join crowd_claims as right_claim
        on
            left_claim.global_customer_id = right_claim.global_customer_id
            and left_claim.attribute = right_claim.attribute
            and left_claim.value < right_claim.value
    where left_claim.place <= 20 and right_claim.place <= 20
)

select pairs.*
from pairs
where
    case pairs.attribute
        when 'birth_date'
            then
                levenshtein(pairs.left_value, pairs.right_value) > 1
                -- Digits or parts in another order: a slip of the hand.
                and left(pairs.left_value, 4)
                || right(pairs.left_value, 2)
                || substr(pairs.left_value, 6, 2)
                <> left(pairs.right_value, 4)
                || substr(pairs.right_value, 6, 2)
                || right(pairs.right_value, 2)
                -- The first of January stands for a year alone.
                and not (
                    left(pairs.left_value, 4) = left(pairs.right_value, 4)
                    and '01-01' in (
                        right(pairs.left_value, 5), right(pairs.right_value, 5)
                    )
                )
        when 'national_id'
            then
                levenshtein(
                    left(pairs.left_value, 60), left(pairs.right_value, 60)
                ) > 2
        when 'name'
            then
                -- No initial in common; below, no beginning of a word and no sound. The
                -- first character is an initial, and most names differ in the others.
                left(lower(pairs.left_value), 1) <> left(lower(pairs.right_value), 1)
                and translate(
                    regexp_replace(lower(pairs.left_value), '(\w)\w*\W*', '\1', 'g'),
                    regexp_replace(lower(pairs.right_value), '(\w)\w*\W*', '\1', 'g'),
                    ''
                ) = regexp_replace(lower(pairs.left_value), '(\w)\w*\W*', '\1', 'g')
        else
            pairs.left_first_seen < pairs.right_last_seen
            and pairs.right_first_seen < pairs.left_last_seen
            and not (
                pairs.left_sources = pairs.right_sources
                and cardinality(pairs.left_sources) = 1
            )
    end;

delete from contradictions
where
    contradictions.attribute = 'name'
    and exists (
        select 1
        from string_to_table(contradictions.left_value, ' ') as left_word
        inner join
            string_to_table(contradictions.right_value, ' ') as right_word
            on
                metaphone(left(left_word, 60), 6) = metaphone(left(right_word, 60), 6)
                or strpos(lower(right_word), lower(left(left_word, 3))) > 0
                or strpos(lower(left_word), lower(left(right_word, 3))) > 0
    );

analyze contradictions;

create temp table found_conflicts on commit drop as
with claims as (
    select
        contradictions.global_customer_id,
        contradictions.attribute,
        contradictions.left_value as value,
        contradictions.left_sources as sources,
        contradictions.left_record_count as record_count,
        contradictions.left_first_seen as first_seen,
        contradictions.left_last_seen as last_seen
    from contradictions
    union
    select
        contradictions.global_customer_id,
        contradictions.attribute,
        contradictions.right_value as value,
        contradictions.right_sources as sources,
        contradictions.right_record_count as record_count,
        contradictions.right_first_seen as first_seen,
        contradictions.right_last_seen as last_seen
    from contradictions
)

select
    claims.global_customer_id,
    claims.attribute::text as attribute,
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
        order by claims.record_count desc, claims.last_seen desc, claims.value
    ) as claims
from claims
left join gold.standing_overrides
    on
        claims.global_customer_id = standing_overrides.global_customer_id
        and claims.attribute = standing_overrides.attribute
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
