-- Quality: what the sources contradict, what each run brought, and what a steward should look at.

create table if not exists gold.quality_attributes (
    attribute text primary key,
    bit smallint not null unique
);
comment on table gold.quality_attributes is
'One row per canonical attribute and its bit in gold.record_quality_totals';
insert into gold.quality_attributes (attribute, bit)
values
('email', 1),
('phone', 2),
('name', 4),
('birth_date', 8),
('address', 16),
('city', 32),
('postal_code', 64),
('national_id', 128)
on conflict (attribute) do nothing;

-- Totals over all records are kept, not computed: phase 10 adds the changed
-- records, and a trigger takes their former versions off. So their cost
-- follows what changed, and they are exact at the end of a run.
create table if not exists gold.record_quality_totals (
    source_system text not null,
    event_month date not null,
    delivered smallint not null,
    flagged smallint not null,
    record_count bigint not null,
    primary key (source_system, event_month, delivered, flagged)
);
comment on table gold.record_quality_totals is
'One row per source, month of the event, attributes said (delivered) and attributes kept out as invalid or junk (flagged), as sums of gold.quality_attributes.bit: how many source records';

-- The attributes a cleaned record says, valid or not, as a sum of bits.
create or replace function gold.delivered_bits(
    email text,
    phone text,
    name text,
    birth_date date,
    address text,
    city text,
    postal_code text,
    national_id text
)
returns integer
language sql immutable parallel safe
return (email is not null)::integer
| (phone is not null)::integer * 2
| (name is not null)::integer * 4
| (birth_date is not null)::integer * 8
| (address is not null)::integer * 16
| (city is not null)::integer * 32
| (postal_code is not null)::integer * 64
| (national_id is not null)::integer * 128;

-- The attributes of a cleaned record that were kept out, as a sum of bits.
create or replace function gold.flagged_bits(issues jsonb)
returns integer
language sql immutable parallel safe
return case
    when issues is null then 0
    else
        (issues ? 'email')::integer
        | (issues ? 'phone')::integer * 2
        | (
            issues ? 'name' or issues ? 'given_name' or issues ? 'family_name'
        )::integer * 4
        | (issues ? 'birth_date')::integer * 8
        | (issues ? 'address')::integer * 16
        | (issues ? 'city')::integer * 32
        | (issues ? 'postal_code')::integer * 64
        | (issues ? 'national_id')::integer * 128
end;

-- Take replaced or removed versions of records off the totals. Phase 10 puts
-- it on the cleaned table of a source when it first counts it; versions that
-- it has not counted yet are not taken off.
create or replace function gold.uncount_replaced_records()
returns trigger
language plpgsql
as $function$
begin
    insert into gold.record_quality_totals as total
    select
        sources.source_system,
        date_trunc('month', replaced.event_ts, 'UTC')::date as event_month,
        gold.delivered_bits(
            replaced.email,
            replaced.phone,
            replaced.name,
            replaced.birth_date,
            replaced.address,
            replaced.city,
            replaced.postal_code,
            replaced.national_id
        ) | gold.flagged_bits(replaced.issues) as delivered,
        gold.flagged_bits(replaced.issues) as flagged,
        -count(*) as record_count
    from replaced
    inner join raw.sources
        on sources.staging_table = tg_table_name
    inner join identity.ingestion_watermarks as watermarks
        on
            watermarks.phase = 'run_quality_metrics'
            and watermarks.upstream = 'staging.' || tg_table_name
            and replaced.run_id <= watermarks.run_id
    where
        not replaced.is_deleted
        -- Marked to be read again under another mapping, and off already.
        and replaced.event_ts > '-infinity'
    group by 1, 2, 3, 4
    on conflict (source_system, event_month, delivered, flagged) do update
        set record_count = total.record_count + excluded.record_count;
    return null;
end
$function$;

create table if not exists gold.customer_composition_totals (
    source_mask bigint not null,
    record_count integer not null,
    customer_count bigint not null,
    primary key (source_mask, record_count)
);
comment on table gold.customer_composition_totals is
'One row per combination of sources and number of records: how many customers, exactly';
comment on column gold.customer_composition_totals.source_mask is
'A sum of raw.sources.source_bit';

-- Keep the totals right when customers that are counted change: phase 10 counts
-- those of later runs than its mark.
create or replace function gold.recount_replaced_customers()
returns trigger
language plpgsql
as $function$
begin
    insert into gold.customer_composition_totals as total
    select
        changes.source_mask,
        changes.record_count,
        sum(changes.customer_count) as customer_count
    from (
        select replaced.source_mask, replaced.record_count, replaced.run_id, -1 as customer_count
        from replaced
        union all
        select written.source_mask, written.record_count, written.run_id, 1 as customer_count
        from written
    ) as changes
    inner join identity.ingestion_watermarks as watermarks
        on
            watermarks.phase = 'run_quality_metrics'
            and watermarks.upstream = 'identity.customers'
            and changes.run_id <= watermarks.run_id
    where changes.record_count > 0
    group by changes.source_mask, changes.record_count
    having sum(changes.customer_count) <> 0
    on conflict (source_mask, record_count) do update
        set customer_count = total.customer_count + excluded.customer_count;
    return null;
end
$function$;
create or replace trigger recount_replaced
after update on identity.customers
referencing old table as replaced new table as written
for each statement execute function gold.recount_replaced_customers();

-- Their sources had other bits once, and phase 10 a table of what it had counted.
do $migration$
begin
    if to_regclass('gold.customer_composition') is null then
        return;
    end if;
    truncate gold.customer_composition_totals;
    insert into gold.customer_composition_totals (source_mask, record_count, customer_count)
    select
        customers.source_mask,
        customers.record_count,
        count(*) as customer_count
    from identity.customers
    inner join identity.ingestion_watermarks as watermarks
        on
            watermarks.phase = 'run_quality_metrics'
            and watermarks.upstream = 'identity.customers'
            and customers.run_id <= watermarks.run_id
    where customers.record_count > 0
    group by customers.source_mask, customers.record_count;
    -- Made again below.
    drop view if exists gold.steward_review_queue;
    drop table gold.customer_composition, gold.quality_sources;
end
$migration$;

-- Phase 10 once counted the pairs again for a table of its own.
do $migration$
begin
    if not identity.is_still_table('gold.match_confidence_metrics') then
        return;
    end if;
    insert into staging.compared_pair_counts (run_id, rule_id, match_decision, score_from, pair_count)
    select run_id, rule_id, match_decision, score_from, pair_count
    from gold.match_confidence_metrics
    on conflict do nothing;
    drop table gold.match_confidence_metrics;
end
$migration$;

create or replace view gold.match_confidence_metrics as
select
    counts.run_id,
    counts.rule_id,
    counts.match_decision,
    counts.score_from,
    counts.pair_count
from staging.compared_pair_counts as counts;
comment on view gold.match_confidence_metrics is
'One row per run, blocking rule, decision and twentieth of the confidence score (score_from up to 5 more): pairs compared';

create table if not exists gold.data_quality_metrics (
    run_id integer not null,
    scope text not null check (scope in ('delivered', 'standing')),
    source_system text not null,
    attribute text not null,
    record_count bigint not null,
    value_count bigint not null,
    completeness real,
    validity real,
    uniqueness real,
    consistency real,
    timeliness real,
    primary key (run_id, scope, source_system, attribute)
);
comment on table gold.data_quality_metrics is
'One row per run, scope, source and attribute. delivered: the records that changed in the run. standing: all records, exactly. Shares from 0 to 1, null where nothing can be said';
comment on column gold.data_quality_metrics.value_count is
'Records that say something for the attribute, valid or not';
comment on column gold.data_quality_metrics.completeness is
'value_count / record_count';
comment on column gold.data_quality_metrics.validity is
'Share of the values that are neither invalid nor junk';
comment on column gold.data_quality_metrics.uniqueness is
'delivered only; email, phone and national_id: distinct values / valid values';
comment on column gold.data_quality_metrics.consistency is
'standing only: share of the customers of the source without an open conflict on the attribute to which the source is a party';
comment on column gold.data_quality_metrics.timeliness is
'Share of the values said in the twelve months up to the newest event of any source';

create table if not exists gold.run_metrics (
    run_id integer not null,
    metric text not null,
    subject text not null,
    value double precision not null,
    basis bigint,
    primary key (run_id, metric, subject)
);
comment on table gold.run_metrics is
'One row per run, metric and what it is about (a source, two sources, a size, a decision)';
comment on column gold.run_metrics.basis is
'What a share was taken of; null for a count';
create index if not exists run_metrics_series
on gold.run_metrics (metric, subject, run_id desc);

create table if not exists gold.metric_warnings (
    run_id integer not null,
    metric text not null,
    subject text not null,
    value double precision not null,
    usual double precision not null,
    tolerance double precision not null,
    run_count integer not null,
    primary key (run_id, metric, subject)
);
comment on table gold.metric_warnings is
'One row per run and share that left its usual range: further from the median of the last runs (usual) than tolerance';

-- What can contradict one another: nobody contradicts an only value, nor one said once what alternates.
create or replace view gold.customer_claims as
select
    said.global_customer_id,
    said.attribute,
    said.value,
    said.sources,
    said.record_count,
    said.first_seen,
    said.last_seen
from gold.customer_attribute_values as said
where
    said.rule <> 'only_value'
    and case
        when said.attribute in ('birth_date', 'national_id', 'name') then said.record_count > 0
        when said.attribute in ('email', 'phone', 'postal_code') then said.record_count > 1
        else false
    end;
comment on view gold.customer_claims is
'One row per customer, attribute and value that may contradict another of them; see customer_attribute_conflicts';

create table if not exists gold.customer_attribute_conflicts (
    global_customer_id uuid not null,
    attribute text not null,
    kind text not null,
    severity text not null check (severity in ('high', 'low')),
    value_count integer not null check (value_count >= 2),
    sources text[] not null,
    claims jsonb not null,
    run_id integer not null,
    detected_at timestamptz not null default now(),
    primary key (global_customer_id, attribute)
);
comment on table gold.customer_attribute_conflicts is
'One row per customer and attribute whose values contradict each other; a resolved one leaves';
comment on column gold.customer_attribute_conflicts.claims is
'The values against each other: [{value, sources, records, first_seen, last_seen}], the most said first';
create index if not exists customer_attribute_conflicts_run_id
on gold.customer_attribute_conflicts (run_id);
create index if not exists customer_attribute_conflicts_high
on gold.customer_attribute_conflicts (detected_at, global_customer_id)
where severity = 'high';

create table if not exists gold.steward_acknowledgements (
    -- One number space with decisions and overrides: gold.steward_withdraw takes any.
    acknowledgement_id bigint primary key
    default nextval('identity.steward_match_decisions_decision_id_seq'),
    item text not null check (item <> ''),
    steward text not null check (steward <> ''),
    reason text not null check (reason <> ''),
    acknowledged_at timestamptz not null default now(),
    valid_until timestamptz,
    withdrawn_at timestamptz,
    withdrawn_by text,
    withdrawn_reason text,
    check ((withdrawn_at is null) = (withdrawn_by is null))
);
comment on table gold.steward_acknowledgements is
'One row per item of the review queue that a steward has seen and leaves as it is; added and withdrawn, never edited';
create index if not exists steward_acknowledgements_item
on gold.steward_acknowledgements (item);

-- They had numbers of their own once, which nobody was told, and were not withdrawn.
do $migration$
begin
    if not exists (
        select from pg_attribute
        where
            attrelid = 'gold.steward_acknowledgements'::regclass
            and attname = 'acknowledgement_id'
            and attidentity <> ''
    ) then
        return;
    end if;
    alter table gold.steward_acknowledgements
    alter column acknowledgement_id drop identity;
    alter table gold.steward_acknowledgements
    alter column acknowledgement_id
    set default nextval('identity.steward_match_decisions_decision_id_seq'),
    add column withdrawn_at timestamptz,
    add column withdrawn_by text,
    add column withdrawn_reason text,
    add check ((withdrawn_at is null) = (withdrawn_by is null));
    -- Out of the way of the new ones first.
    update gold.steward_acknowledgements
    set acknowledgement_id = -acknowledgement_id;
    update gold.steward_acknowledgements
    set acknowledgement_id = default;
end
$migration$;

drop function if exists gold.steward_acknowledge(text, text, text, timestamptz);
create or replace function gold.steward_acknowledge(
    item text,
    steward text,
    reason text,
    valid_until timestamptz default null
)
returns bigint
language plpgsql
as $function$
declare
    new_id bigint;
begin
    perform gold.check_call(steward, reason, valid_until);
    if not exists (
        select 1 from gold.steward_review_queue as queue
        where queue.item = steward_acknowledge.item
    ) then
        raise exception 'the review queue has no item %', quote_nullable(item)
            using hint = 'Its items: select item, explanation from gold.steward_review_queue.';
    end if;
    insert into gold.steward_acknowledgements (
        item, steward, reason, valid_until
    )
    values (item, trim(steward), trim(reason), valid_until)
    returning acknowledgement_id into new_id;
    return new_id;
end
$function$;
comment on function gold.steward_acknowledge is
'Leave an item of the review queue as it is. It comes back after valid_until; a conflict or a large customer also when its number of values has changed';

create or replace function gold.review_queue_limit(kind text)
returns integer
language sql immutable parallel safe
return case kind
    when 'flagged_pair' then 200
    when 'refused_link' then 100
    when 'conflict' then 100
    when 'large_customer' then 50
    when 'shared_value' then 50
end;
comment on function gold.review_queue_limit is
'How many items of a kind the review queue shows at most; null: all there are';

-- By which records a link between two profiles is shown, where their customers
-- are two: the first of each. Found by min(): with `order by ... limit 1` the
-- planner, where many records share a profile, reads all records in the order
-- of their keys until one of them is of this profile. A profile with itself:
-- the first records of each two customers that follow one another.
create or replace function gold.shown_records(
    left_profile_key bigint, right_profile_key bigint
)
returns table (
    left_record_key bigint,
    right_record_key bigint,
    left_customer_id uuid,
    right_customer_id uuid
)
language sql stable
as $function$
    select
        left_side.record_key,
        right_side.record_key,
        left_side.global_customer_id,
        right_side.global_customer_id
    from (
        select min(map.record_key) as record_key
        from identity.memberships as map
        where map.profile_key = shown_records.left_profile_key
    ) as left_first
    inner join identity.memberships as left_side
        on left_first.record_key = left_side.record_key
    cross join (
        select min(map.record_key) as record_key
        from identity.memberships as map
        where map.profile_key = shown_records.right_profile_key
    ) as right_first
    inner join identity.memberships as right_side
        on right_first.record_key = right_side.record_key
    where
        left_side.global_customer_id <> right_side.global_customer_id
        and shown_records.left_profile_key < shown_records.right_profile_key
    union all
    select
        neighbours.record_key,
        neighbours.next_record_key,
        neighbours.global_customer_id,
        neighbours.next_customer_id
    from (
        select
            firsts.record_key,
            firsts.global_customer_id,
            lead(firsts.record_key) over in_order as next_record_key,
            lead(firsts.global_customer_id) over in_order as next_customer_id
        from (
            select
                map.global_customer_id,
                min(map.record_key) as record_key
            from identity.memberships as map
            where
                map.profile_key = shown_records.left_profile_key
                and shown_records.left_profile_key
                = shown_records.right_profile_key
            group by map.global_customer_id
        ) as firsts
        window in_order as (order by firsts.record_key)
    ) as neighbours
    where neighbours.next_record_key is not null
$function$;

-- One row per thing a steward should decide, the most pressing first. What one
-- decision settles is one row: a pair of customers however many of their
-- records match. Each kind is ranked and cut, so a steward is not buried. Where a table that it reads becomes
-- a view, it is dropped, and made again here.
create or replace view gold.steward_review_queue as
with active_decisions as materialized (
    select
        records.decision_id,
        decisions.judgement,
        records.side,
        map.global_customer_id
    from identity.steward_match_decisions as decisions
    inner join identity.steward_decision_records as records
        on decisions.decision_id = records.decision_id
    inner join identity.memberships as map
        on records.record_key = map.record_key
    where
        decisions.withdrawn_at is null
        and (decisions.valid_until is null or decisions.valid_until > now())
    group by
        records.decision_id,
        decisions.judgement,
        records.side,
        map.global_customer_id
),

decided_pairs as materialized (
    select distinct
        left_side.global_customer_id as left_customer_id,
        right_side.global_customer_id as right_customer_id
    from active_decisions as left_side
    inner join active_decisions as right_side
        on
            left_side.decision_id = right_side.decision_id
            and left_side.global_customer_id <> right_side.global_customer_id
            and (
                left_side.judgement = 'same'
                or left_side.side <> right_side.side
            )
),

acknowledged as materialized (
    select acknowledgements.item
    from gold.steward_acknowledgements as acknowledgements
    where
        acknowledgements.withdrawn_at is null
        and (
            acknowledgements.valid_until is null
            or acknowledgements.valid_until > now()
        )
),

-- A link is left as it is for the customers of its two records, in either order.
acknowledged_pairs as (
    select
        case parsed.item[1]
            when 'pair' then 'waiting' else 'refused'
        end::identity.link_status as status,
        one.global_customer_id as one_customer_id,
        other.global_customer_id as other_customer_id
    from acknowledged
    cross join
        lateral regexp_match(
            acknowledged.item, '^(pair|refused) (-?\d+) (-?\d+)$'
        ) as parsed (item)
    inner join identity.memberships as one
        on parsed.item[2]::bigint = one.record_key
    inner join identity.memberships as other
        on parsed.item[3]::bigint = other.record_key
),

settled_pairs as materialized (
    select
        statuses.status,
        decided_pairs.left_customer_id,
        decided_pairs.right_customer_id
    from decided_pairs
    cross join
        (
            values
            ('waiting'::identity.link_status),
            ('refused'::identity.link_status)
        ) as statuses (status)
    union all
    select
        acknowledged_pairs.status,
        acknowledged_pairs.one_customer_id,
        acknowledged_pairs.other_customer_id
    from acknowledged_pairs
    union all
    select
        acknowledged_pairs.status,
        acknowledged_pairs.other_customer_id,
        acknowledged_pairs.one_customer_id
    from acknowledged_pairs
),

-- Applied or not: what a steward has said is decided at once.
active_overrides as materialized (
    select
        overrides.override_id,
        followed.global_customer_id,
        overrides.global_customer_id as made_for_id,
        overrides.attribute::text as attribute,
        overrides.value,
        overrides.steward,
        overrides.made_at,
        overrides.valid_until,
        row_number() over (
            partition by followed.global_customer_id, overrides.attribute
            order by overrides.made_at desc, overrides.override_id desc
        ) as place
    from gold.customer_steward_overrides as overrides
    cross join
        lateral (
            select
                identity.current_customer_id(overrides.global_customer_id)
                    as global_customer_id
        ) as followed
    where
        overrides.retired_run_id is null
        and overrides.withdrawn_at is null
        and (overrides.valid_until is null or overrides.valid_until > now())
),

level_names as materialized (
    select
        comparison.value ->> 'name' as attribute,
        jsonb_array_length(comparison.value -> 'levels')
        - level.place as level,
        level.value ->> 'name' as level_name
    from identity.match_models as models
    cross join
        jsonb_array_elements(
            models.parameters -> 'comparisons'
        ) as comparison
    cross join
        jsonb_array_elements(
            comparison.value -> 'levels'
        ) with ordinality as level (value, place)
    where models.is_current
),

-- The best links of each kind that nobody has settled, more than are shown, as
-- many fall together. Each is looked up on the way down an index in the order
-- of the weights, until there are enough: `not in` is one hashed list, where
-- `not exists` becomes a join that looks at all pairs first.
open_links as (
    (
        select
            'waiting'::identity.link_status as status,
            pairs.left_profile_key,
            pairs.right_profile_key,
            pairs.match_weight,
            sides.left_record_key,
            sides.right_record_key,
            sides.left_customer_id,
            sides.right_customer_id
        from staging.compared_pairs as pairs
        cross join
            lateral (
                select shown.*
                from
                    gold.shown_records(
                        pairs.left_profile_key, pairs.right_profile_key
                    ) as shown
                where
                    (
                        'waiting',
                        shown.left_customer_id,
                        shown.right_customer_id
                    )
                    not in (
                        select
                            settled_pairs.status,
                            settled_pairs.left_customer_id,
                            settled_pairs.right_customer_id
                        from settled_pairs
                    )
                order by shown.left_record_key
                limit 1
            ) as sides
        where
            pairs.decision = 1
            and (
                -- The records of one profile that say too little to be one.
                pairs.left_profile_key = pairs.right_profile_key
                or (
                    select match_links.status
                    from identity.match_links
                    where
                        match_links.left_profile_key = pairs.left_profile_key
                        and match_links.right_profile_key
                        = pairs.right_profile_key
                ) = 'waiting'
            )
        order by
            pairs.match_weight desc,
            pairs.left_profile_key asc,
            pairs.right_profile_key asc
        limit 3 * gold.review_queue_limit('flagged_pair')
    )
    union all
    (
        select
            'refused',
            links.left_profile_key,
            links.right_profile_key,
            links.match_weight,
            sides.left_record_key,
            sides.right_record_key,
            sides.left_customer_id,
            sides.right_customer_id
        from identity.refused_links as links
        cross join
            lateral gold.shown_records(
                links.left_profile_key, links.right_profile_key
            ) as sides
        where
            -- Compared anew, it may be no link any more, though phase 6 is yet to come.
            (
                select match_links.status
                from identity.match_links
                where
                    match_links.left_profile_key = links.left_profile_key
                    and match_links.right_profile_key = links.right_profile_key
            ) = 'refused'
            and ('refused', sides.left_customer_id, sides.right_customer_id)
            not in (
                select
                    settled_pairs.status,
                    settled_pairs.left_customer_id,
                    settled_pairs.right_customer_id
                from settled_pairs
            )
        order by
            links.match_weight desc,
            links.left_profile_key asc,
            links.right_profile_key asc
        limit 3 * gold.review_queue_limit('refused_link')
    )
),

linked_customers as (
    select distinct on (
        open_links.status,
        least(open_links.left_customer_id, open_links.right_customer_id),
        greatest(open_links.left_customer_id, open_links.right_customer_id)
    ) open_links.*
    from open_links
    order by
        open_links.status,
        least(open_links.left_customer_id, open_links.right_customer_id),
        greatest(open_links.left_customer_id, open_links.right_customer_id),
        open_links.match_weight desc,
        open_links.left_profile_key,
        open_links.right_profile_key
),

shown_links as (
    select ranked.*
    from (
        select
            linked_customers.*,
            row_number() over (
                partition by linked_customers.status
                order by
                    linked_customers.match_weight desc,
                    linked_customers.left_profile_key,
                    linked_customers.right_profile_key
            ) as place
        from linked_customers
    ) as ranked
    where
        ranked.place <= gold.review_queue_limit(
            case ranked.status
                when 'waiting' then 'flagged_pair' else 'refused_link'
            end
        )
),

link_items as (
    select
        case links.status
            when 'waiting' then 'flagged_pair'
            else 'refused_link'
        end as kind,
        case links.status when 'waiting' then 3 else 4 end as priority,
        candidates.total_confidence_score as rank,
        links.left_customer_id as global_customer_id,
        links.right_customer_id as other_customer_id,
        format('%s %s', left_input.source_system, left_input.record_id)
            as left_record,
        format('%s %s', right_input.source_system, right_input.record_id)
            as right_record,
        (
            select
                jsonb_object_agg(
                    attributes.attribute,
                    jsonb_build_array(
                        attributes.left_value, attributes.right_value
                    )
                )
            from (
                values
                ('name', left_input.name, right_input.name),
                ('email', left_input.email, right_input.email),
                ('phone', left_input.phone, right_input.phone),
                (
                    'birth_date',
                    left_input.birth_date::text,
                    right_input.birth_date::text
                ),
                ('address', left_input.address, right_input.address),
                ('city', left_input.city, right_input.city),
                (
                    'postal_code',
                    left_input.postal_code,
                    right_input.postal_code
                ),
                (
                    'national_id',
                    left_input.national_id,
                    right_input.national_id
                )
            ) as attributes (attribute, left_value, right_value)
            where num_nonnulls(attributes.left_value, attributes.right_value) > 0
        ) as side_by_side,
        concat_ws(
            ': ',
            replace(refused_links.refused_reason, '_', ' '),
            scores.explanation
        ) as explanation,
        runs.started_at as waiting_since,
        format(
            'select gold.steward_confirm(%L, %L, %L, %L, %L, %L);',
            left_input.source_system,
            left_input.record_id,
            right_input.source_system,
            right_input.record_id,
            '<you>',
            '<why>'
        ) as settle_call,
        format(
            'select gold.steward_reject(%L, %L, %L, %L, %L, %L);',
            left_input.source_system,
            left_input.record_id,
            right_input.source_system,
            right_input.record_id,
            '<you>',
            '<why>'
        ) as other_call,
        format(
            '%s %s %s',
            case links.status when 'waiting' then 'pair' else 'refused' end,
            links.left_record_key,
            links.right_record_key
        ) as item
    from shown_links as links
    -- Looked up for each: how few are shown the planner cannot know, and would read all.
    cross join
        lateral (
            select inputs.*
            from staging.identity_inputs as inputs
            where inputs.record_key = links.left_record_key
            limit 1 -- noqa: AM09
        ) as left_input
    cross join
        lateral (
            select inputs.*
            from staging.identity_inputs as inputs
            where inputs.record_key = links.right_record_key
            limit 1 -- noqa: AM09
        ) as right_input
    left join
        lateral (
            select compared.*
            from staging.identity_match_candidates as compared
            where
                compared.left_profile_key = links.left_profile_key
                and compared.right_profile_key = links.right_profile_key
            limit 1 -- noqa: AM09
        ) as candidates
        on true
    left join
        lateral (
            select refused.*
            from identity.refused_links as refused
            where
                refused.left_profile_key = links.left_profile_key
                and refused.right_profile_key = links.right_profile_key
            limit 1 -- noqa: AM09
        ) as refused_links
        on true
    left join gold.pipeline_runs as runs
        on coalesce(refused_links.run_id, candidates.run_id) = runs.run_id
    left join lateral (
        select
            concat(
                string_agg(
                    format(
                        '%s %s %s',
                        replace(compared.attribute, '_', ' '),
                        case
                            when compared.level = 0 then 'differs'
                            else
                                replace(
                                    coalesce(
                                        level_names.level_name,
                                        'level ' || compared.level
                                    ),
                                    '_',
                                    ' '
                                )
                        end,
                        to_char(compared.score, 'FMS990.0')
                    ),
                    ', '
                    order by abs(compared.score) desc, compared.attribute
                ),
                format(
                    ' = %s of 100',
                    round(candidates.total_confidence_score::numeric, 1)
                )
            ) as explanation
        from (
            values
            ('email', candidates.email_level, candidates.email_score),
            ('phone', candidates.phone_level, candidates.phone_score),
            (
                'given_name',
                candidates.given_name_level,
                candidates.given_name_score
            ),
            (
                'family_name',
                candidates.family_name_level,
                candidates.family_name_score
            ),
            (
                'birth_date',
                candidates.birth_date_level,
                candidates.birth_date_score
            ),
            ('address', candidates.address_level, candidates.address_score),
            ('city', candidates.city_level, candidates.city_score),
            (
                'postal_code',
                candidates.postal_code_level,
                candidates.postal_code_score
            ),
            (
                'national_id',
                candidates.national_id_level,
                candidates.national_id_score
            )
        ) as compared (attribute, level, score)
        left join level_names
            on
                compared.attribute = level_names.attribute
                and compared.level = level_names.level
        where compared.level is not null
    ) as scores on true
),

conflict_items as (
    select
        'conflict' as kind,
        2 as priority,
        shown.value_count::real as rank,
        shown.global_customer_id,
        null::uuid as other_customer_id,
        null as left_record,
        null as right_record,
        jsonb_build_object(
            shown.attribute,
            (
                select jsonb_agg(claim.value -> 'value' order by claim.place)
                from
                    jsonb_array_elements(shown.claims)
                    with ordinality as claim (value, place)
            )
        ) as side_by_side,
        (
            select
                string_agg(
                    format(
                        '%s by %s (%s)',
                        claim.value ->> 'value',
                        translate(claim.value ->> 'sources', '[]"', ''),
                        claim.value ->> 'records'
                    ),
                    ', '
                    order by claim.place
                )
            from
                jsonb_array_elements(shown.claims)
                with ordinality as claim (value, place)
        ) as explanation,
        shown.detected_at as waiting_since,
        format(
            'select gold.steward_override(%L, %L, %L, %L, %L);',
            shown.global_customer_id,
            shown.attribute,
            shown.claims -> 0 ->> 'value',
            '<you>',
            '<why>'
        ) as settle_call,
        format(
            'select * from gold.customer_timeline(%L);',
            shown.global_customer_id
        ) as other_call,
        format(
            'conflict %s %s %s',
            shown.global_customer_id,
            shown.attribute,
            shown.value_count
        ) as item
    from (
        select conflicts.*
        from gold.customer_attribute_conflicts as conflicts
        where
            conflicts.severity = 'high'
            and not exists (
                select 1
                from active_overrides
                where
                    active_overrides.global_customer_id
                    = conflicts.global_customer_id
                    and active_overrides.attribute = conflicts.attribute
            )
            and format(
                'conflict %s %s %s',
                conflicts.global_customer_id,
                conflicts.attribute,
                conflicts.value_count
            ) not in (select acknowledged.item from acknowledged)
        order by conflicts.detected_at, conflicts.global_customer_id
        limit gold.review_queue_limit('conflict')
    ) as shown
),

-- Larger than 99.9 % of customers have records, and than twenty profiles.
unusual_size as (
    select greatest(20, min(sizes.record_count)) as profile_count
    from (
        select
            totals.record_count,
            sum(sum(totals.customer_count))
                over (
                    order by totals.record_count
                )
            / sum(sum(totals.customer_count)) over () as share_up_to
        from gold.customer_composition_totals as totals
        where totals.customer_count > 0
        group by totals.record_count
    ) as sizes
    where sizes.share_up_to >= 0.999
),

large_items as (
    select
        'large_customer' as kind,
        2 as priority,
        large.profile_count::real as rank,
        large.global_customer_id,
        null::uuid as other_customer_id,
        null as left_record,
        null as right_record,
        (
            select
                jsonb_build_object(
                    'name', jsonb_agg(names.value order by names.place)
                )
            from (
                select
                    attribute_values.value,
                    row_number() over (
                        order by
                            attribute_values.record_count desc,
                            attribute_values.value
                    ) as place
                from gold.customer_attribute_values as attribute_values
                where
                    attribute_values.global_customer_id
                    = large.global_customer_id
                    and attribute_values.attribute = 'name'
            ) as names
            where names.place <= 5
        ) as side_by_side,
        format(
            '%s records, %s different profiles: one person, or several?',
            large.record_count,
            large.profile_count
        ) as explanation,
        runs.started_at as waiting_since,
        format(
            'select gold.steward_acknowledge(%L, %L, %L);',
            format(
                'large_customer %s %s',
                large.global_customer_id,
                large.profile_count
            ),
            '<you>',
            '<why>'
        ) as settle_call,
        format(
            'select * from gold.customer_timeline(%L);',
            large.global_customer_id
        ) as other_call,
        format(
            'large_customer %s %s',
            large.global_customer_id,
            large.profile_count
        ) as item
    from (
        select customers.*
        from identity.customers
        cross join unusual_size
        where
            customers.profile_count > unusual_size.profile_count
            and format(
                'large_customer %s %s',
                customers.global_customer_id,
                customers.profile_count
            ) not in (select acknowledged.item from acknowledged)
        order by customers.profile_count desc, customers.global_customer_id
        limit gold.review_queue_limit('large_customer')
    ) as large
    left join gold.pipeline_runs as runs
        on large.run_id = runs.run_id
),

shared_items as (
    select
        'shared_value' as kind,
        5 as priority,
        shared.profile_count::real as rank,
        null::uuid as global_customer_id,
        null::uuid as other_customer_id,
        null as left_record,
        null as right_record,
        jsonb_build_object(
            shared.attribute, jsonb_build_array(shared.value)
        ) as side_by_side,
        format(
            '%s %s is shared by %s profiles under %s names, %s%% of their '
            || 'records under one: it says little about who somebody is',
            shared.attribute,
            shared.value,
            shared.profile_count,
            shared.name_count,
            round(shared.top_name_share * 100)
        ) as explanation,
        runs.started_at as waiting_since,
        format(
            'select gold.steward_acknowledge(%L, %L, %L);',
            format('shared_value %s %s', shared.attribute, shared.value),
            '<you>',
            '<why>'
        ) as settle_call,
        null as other_call,
        format('shared_value %s %s', shared.attribute, shared.value) as item
    from (
        select shared_values.*
        from staging.shared_values
        where
            format(
                'shared_value %s %s',
                shared_values.attribute,
                shared_values.value
            ) not in (select acknowledged.item from acknowledged)
        order by shared_values.profile_count desc, shared_values.value
        limit gold.review_queue_limit('shared_value')
    ) as shared
    left join gold.pipeline_runs as runs
        on shared.run_id = runs.run_id
),

colliding_items as (
    select
        'colliding_overrides' as kind,
        1 as priority,
        0::real as rank,
        older.global_customer_id,
        null::uuid as other_customer_id,
        null as left_record,
        null as right_record,
        jsonb_build_object(
            older.attribute, jsonb_build_array(newer.value, older.value)
        ) as side_by_side,
        format(
            '%s by %s counts, being newer than %s by %s',
            newer.value,
            newer.steward,
            older.value,
            older.steward
        ) as explanation,
        greatest(older.made_at, newer.made_at) as waiting_since,
        format(
            'select gold.steward_withdraw(%s, %L, %L);',
            older.override_id,
            '<you>',
            '<why>'
        ) as settle_call,
        format(
            'select gold.steward_withdraw(%s, %L, %L);',
            newer.override_id,
            '<you>',
            '<why>'
        ) as other_call,
        format('colliding_overrides %s %s', newer.override_id, older.override_id)
            as item
    from active_overrides as older
    inner join active_overrides as newer
        on
            older.global_customer_id = newer.global_customer_id
            and older.attribute = newer.attribute
            and newer.place = 1
    where
        older.place > 1
        -- One with an end lets the one before it count again: that was meant.
        and not (
            older.made_for_id = newer.made_for_id
            and newer.valid_until is not null
            and (
                older.valid_until is null
                or older.valid_until > newer.valid_until
            )
        )
),

expiring_items as (
    select
        'expiring_override' as kind,
        case
            when active_overrides.valid_until < now() + interval '3 days' then 1
            else 2
        end as priority,
        0::real as rank,
        active_overrides.global_customer_id,
        null::uuid as other_customer_id,
        null as left_record,
        null as right_record,
        jsonb_build_object(
            active_overrides.attribute,
            jsonb_build_array(active_overrides.value)
        ) as side_by_side,
        format(
            '%s by %s counts until %s: still right?',
            active_overrides.value,
            active_overrides.steward,
            to_char(active_overrides.valid_until, 'YYYY-MM-DD HH24:MI TZ')
        ) as explanation,
        active_overrides.valid_until - interval '14 days' as waiting_since,
        format(
            'select gold.steward_override(%L, %L, %L, %L, %L);',
            active_overrides.global_customer_id,
            active_overrides.attribute,
            active_overrides.value,
            '<you>',
            '<why>'
        ) as settle_call,
        format(
            'select gold.steward_acknowledge(%L, %L, %L);',
            format('expiring_override %s', active_overrides.override_id),
            '<you>',
            '<why>'
        ) as other_call,
        format('expiring_override %s', active_overrides.override_id) as item
    from active_overrides
    where
        active_overrides.place = 1
        and active_overrides.valid_until < now() + interval '14 days'
),

items as (
    select * from colliding_items
    union all
    select * from expiring_items
    union all
    select * from link_items
    union all
    select * from conflict_items
    union all
    select * from large_items
    union all
    select * from shared_items
)

select
    items.priority,
    items.kind,
    items.global_customer_id,
    items.other_customer_id,
    items.left_record,
    items.right_record,
    items.side_by_side,
    items.explanation,
    items.waiting_since,
    date_trunc('second', now() - items.waiting_since) as waiting,
    items.settle_call,
    items.other_call,
    items.item
from items
where items.item not in (select acknowledged.item from acknowledged)
order by items.priority, items.rank desc, items.item;
comment on view gold.steward_review_queue is
'One row per thing to decide, the most pressing first: what it is, the values side by side, why, since when, and the exact call that settles it. At most 200 flagged pairs, 100 refused links, 100 conflicts, 50 large customers and 50 shared values (gold.review_queue_limit): others come up as these are settled';
comment on column gold.steward_review_queue.priority is
'1 to 5, the lower the more pressing: overrides that collide or end soon, conflicts and large customers, flagged pairs, refused links, shared values';
comment on column gold.steward_review_queue.global_customer_id is
'The customer it is about; of a pair, that of left_record; null for a shared value';
comment on column gold.steward_review_queue.other_customer_id is
'The customer of right_record';
comment on column gold.steward_review_queue.side_by_side is
'{attribute: [values against each other]}; of a pair the left value first';
comment on column gold.steward_review_queue.explanation is
'Why a steward is asked: how the two compare, who says what';
comment on column gold.steward_review_queue.settle_call is
'The call that does what is asked about; put your name and reason in';
comment on column gold.steward_review_queue.other_call is
'The call that says the opposite, or shows more';
comment on column gold.steward_review_queue.item is
'Its name, for gold.steward_acknowledge';
