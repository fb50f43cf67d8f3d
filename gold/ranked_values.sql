-- One row per value of a touched customer's attribute that has more than one, with its place by the chain.
-- standing: a number per step of the attribute's chain, the smaller the better; arrays compare from their
-- first element, and a last tie goes to the value that sorts first.

create unlogged table gold.working_contested as
select
    global_customer_id,
    attribute
from gold.working_values
group by global_customer_id, attribute
having count(*) > 1;

analyze gold.working_contested;

create unlogged table gold.working_ranked as
with standings as (
    select
        counted.*,
        %(standings)s::double precision[] as standing
    from gold.working_values as counted
    inner join gold.working_contested using (global_customer_id, attribute)
),

ranked as (
    select
        standings.*,
        row_number() over best_first as place,
        case
            when row_number() over best_first = 1 then lead(standings.standing) over best_first
            else first_value(standings.standing) over best_first
        end as opponent
    from standings
    window best_first as (
        partition by standings.global_customer_id, standings.attribute
        order by standings.standing, standings.value
        rows unbounded preceding
    )
)

select
    global_customer_id,
    first_seen,
    last_seen,
    record_count,
    place,
    attribute,
    -- The first step in which the value differs from its opponent: for the first in
    -- place the runner-up, for another the first.
    coalesce(
        (%(rules)s::gold.golden_rule[])[
            case
                when standing[1] <> opponent[1] then 1
                when standing[2] <> opponent[2] then 2
                when standing[3] <> opponent[3] then 3
                when standing[4] <> opponent[4] then 4
                when standing[5] <> opponent[5] then 5
                when standing[6] <> opponent[6] then 6
            end
        ],
        'tie_break'
    ) as rule,
    sighting,
    source_bits,
    value
from ranked;

analyze gold.working_ranked;
