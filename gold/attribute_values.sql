-- One row per touched customer and distinct value of one attribute, with its place by the attribute's chain.
-- standing: a number per step of the chain, the smaller the better; arrays compare from their first element.
select
    ranked.global_customer_id,
    ranked.first_seen,
    ranked.last_seen,
    ranked.record_count,
    ranked.place,
    %(attribute)s::gold.canonical_attribute as attribute,
    -- The first step in which the value differs from its opponent: for the first in
    -- place the runner-up, for another the first.
    case
        when ranked.opponent is null then 'only_value'::gold.golden_rule
        else coalesce(
            (%(rules)s::gold.golden_rule [])[
                case
                    when ranked.standing[1] <> ranked.opponent[1] then 1
                    when ranked.standing[2] <> ranked.opponent[2] then 2
                    when ranked.standing[3] <> ranked.opponent[3] then 3
                    when ranked.standing[4] <> ranked.opponent[4] then 4
                    when ranked.standing[5] <> ranked.opponent[5] then 5
                    when ranked.standing[6] <> ranked.opponent[6] then 6
                end
            ],
            'tie_break'
        )
    end as rule,
    ranked.sighting,
    ranked.source_bits,
    ranked.value
from (
    select
        standings.*,
        row_number() over best_first as place,
        case
            when row_number() over best_first = 1
                then lead(standings.standing) over best_first
            else first_value(standings.standing) over best_first
        end as opponent
    from (
        select
            counted.*,
            %(standing)s::double precision [] as standing
        from (
            select
                global_customer_id,
                %(value)s as value,
                count(*)::integer as record_count,
                min(event_ts) as first_seen,
                max(event_ts) as last_seen,
                max(sighting) as sighting,
                bit_or(source_bits) as source_bits,
                max(%(filled)s) as filled
            from gold.working_records
            where %(value)s is not null
            group by global_customer_id, %(value)s
        ) as counted
    ) as standings
    window best_first as (
        partition by global_customer_id
        order by standing, value
        rows unbounded preceding
    )
) as ranked
