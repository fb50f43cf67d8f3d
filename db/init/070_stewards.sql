-- What a steward says over psql: decisions about records, and values that override the machine's.

create table if not exists gold.customer_steward_overrides (
    -- One number space with the decisions: gold.steward_withdraw takes any.
    override_id bigint primary key
    default nextval('identity.steward_match_decisions_decision_id_seq'),
    global_customer_id uuid not null
    references identity.customers (global_customer_id),
    attribute gold.canonical_attribute not null,
    value text not null,
    steward text not null check (steward <> ''),
    reason text not null check (reason <> ''),
    made_at timestamptz not null default now(),
    valid_until timestamptz,
    withdrawn_at timestamptz,
    withdrawn_by text,
    withdrawn_reason text,
    applied_run_id integer,
    retired_run_id integer,
    check ((withdrawn_at is null) = (withdrawn_by is null)),
    check (retired_run_id >= applied_run_id)
);
comment on table gold.customer_steward_overrides is
'One row per value a steward has set; added and withdrawn, never edited. It belongs to the customer id it was made for, goes with it into whatever it is merged, and comes back with it when it is split off again';
comment on column gold.customer_steward_overrides.applied_run_id is
'The run whose phase 9B brought it into gold; null: waits for the next run';
comment on column gold.customer_steward_overrides.retired_run_id is
'The run whose phase 9B took it out again, withdrawn or expired';
create index if not exists customer_steward_overrides_standing
on gold.customer_steward_overrides (global_customer_id) where retired_run_id is null;

-- One row per override that golden records follow now, with the customer it counts for.
create or replace view gold.standing_overrides as
select
    overrides.override_id,
    followed.global_customer_id,
    overrides.attribute,
    overrides.value,
    overrides.steward,
    overrides.reason,
    overrides.made_at,
    overrides.valid_until,
    row_number() over (
        partition by followed.global_customer_id, overrides.attribute
        order by overrides.made_at desc, overrides.override_id desc
    ) = 1 as is_winner
from gold.customer_steward_overrides as overrides
cross join
    lateral (
        select identity.current_customer_id(overrides.global_customer_id) as global_customer_id
    ) as followed
where overrides.applied_run_id is not null and overrides.retired_run_id is null;
comment on view gold.standing_overrides is
'One row per applied override and the customer it counts for now; of two on one attribute the newer wins';

-- Decisions about records -----------------------------------------------------

-- One row per record of a decision in force; a split says both: its side 1 belongs
-- together, and none of it with side 2.
create or replace view identity.active_steward_decisions as
with active as (
    select
        decisions.decision_id,
        decisions.judgement,
        records.record_key,
        records.side
    from identity.steward_match_decisions as decisions
    inner join identity.steward_decision_records as records
        on decisions.decision_id = records.decision_id
    where
        decisions.withdrawn_at is null
        and (decisions.valid_until is null or decisions.valid_until > now())
)

select
    decision_id,
    case judgement when 'split' then 'different' else judgement end as judgement,
    record_key,
    side
from active
union all
select
    decision_id,
    'same',
    record_key,
    side
from active
where judgement = 'split' and side = 1;
comment on view identity.active_steward_decisions is
'One row per decision in force, judgement (same, different) and record';

-- The key of a record that the pipeline has seen; an error for any other.
create or replace function gold.known_record(source_system text, record_id text)
returns bigint
language plpgsql stable
as $function$
declare
    key bigint := identity.record_key(source_system, record_id);
begin
    if key is null or not exists (
        select from staging.identity_inputs as inputs where inputs.record_key = key
    ) then
        raise exception 'there is no record % of source %', coalesce(quote_literal(known_record.record_id), 'null'),
            coalesce(quote_literal(known_record.source_system), 'null')
            using hint = 'select source_system, record_id from identity.customer_identity_map '
                'where global_customer_id = ''...''; lists the records of a customer.';
    end if;
    return key;
end
$function$;

-- The customer an id stands for now; an error when nobody does.
create or replace function gold.known_customer(customer uuid)
returns uuid
language plpgsql stable
as $function$
declare
    found_id uuid := identity.current_customer_id(customer);
    erasure gold.erasures;
begin
    if found_id is null then
        raise exception 'there is no customer %', coalesce(customer::text, 'null')
            using hint = 'select global_customer_id, canonical_name from gold.dim_customers; lists them.';
    end if;
    if not exists (
        select from identity.customers
        where customers.global_customer_id = found_id and customers.status = 'live'
    ) then
        select erasures.* into erasure
        from gold.erasures
        where erasures.global_customer_id = found_id
        order by erasures.erasure_id desc
        limit 1;
        if found then
            raise exception 'customer % was erased on % by %: %',
                customer, erasure.erased_at::date, erasure.requested_by, erasure.reason;
        end if;
        raise exception 'customer % is closed: its last record was withdrawn', customer;
    end if;
    if found_id <> customer then
        raise notice 'customer % is now part of %', customer, found_id;
    end if;
    return found_id;
end
$function$;

-- What every call must bring.
create or replace function gold.check_call(steward text, reason text, valid_until timestamptz)
returns void
language plpgsql
as $function$
begin
    if coalesce(trim(steward), '') = '' then
        raise exception 'a decision needs the name of its steward';
    end if;
    if coalesce(trim(reason), '') = '' then
        raise exception 'a decision needs a reason';
    end if;
    if valid_until <= now() then
        raise exception 'valid_until % lies in the past', valid_until
            using hint = 'Leave it out for a decision without end.';
    end if;
end
$function$;

-- A decision in force that a decision contradicts, null when there is none. What "same"
-- puts together is followed through all such decisions: with a = b and b = c in force,
-- "a and c differ" contradicts them.
create or replace function gold.contradicted_decision(decision bigint)
returns bigint
language sql stable
as $function$
    with recursive in_force as materialized (
        select * from identity.active_steward_decisions
    ),

    together as (
        select
            first.record_key as start_key,
            first.record_key,
            null::bigint as decision_id
        from in_force as first
        where first.decision_id = decision and first.side = 1
        union
        select
            together.start_key,
            reached.record_key,
            -- The last decision on the way that is not the new one.
            case when reached.decision_id = decision then together.decision_id else reached.decision_id end
        from together
        inner join in_force as link
            on together.record_key = link.record_key and link.judgement = 'same'
        inner join in_force as reached
            on
                link.decision_id = reached.decision_id
                and reached.judgement = 'same'
                and reached.record_key <> together.record_key
    ),

    contradictions as (
        -- A "different" in force between two records that are together now.
        select other.decision_id
        from together as one
        inner join together as two
            on one.start_key = two.start_key
        inner join in_force as side_one
            on one.record_key = side_one.record_key
        inner join in_force as other
            on
                side_one.decision_id = other.decision_id
                and two.record_key = other.record_key
        where
            side_one.judgement = 'different'
            and other.judgement = 'different'
            and side_one.side < other.side
            and other.decision_id <> decision
        union all
        -- The decision itself is a "different" between records that are together.
        select together.decision_id
        from together
        inner join in_force as side_two
            on together.record_key = side_two.record_key
        where
            side_two.decision_id = decision
            and side_two.judgement = 'different'
            and side_two.side = 2
            and together.decision_id is not null
    )

    select min(contradictions.decision_id) from contradictions
$function$;

-- A decision in force that says the same as a decision, and as long; null when there is none.
create or replace function gold.repeated_decision(decision bigint)
returns bigint
language sql stable
as $function$
    with told as (
        select
            decisions.decision_id,
            decisions.judgement,
            decisions.valid_until,
            sides.one,
            sides.other
        from identity.steward_match_decisions as decisions
        cross join
            lateral (
                select
                    array_agg(records.record_key order by records.record_key)
                        filter (where records.side = 1) as one,
                    array_agg(records.record_key order by records.record_key)
                        filter (where records.side = 2) as other
                from identity.steward_decision_records as records
                where records.decision_id = decisions.decision_id
            ) as sides
        where
            decisions.decision_id in (
                select also.decision_id
                from identity.steward_decision_records as mine
                inner join identity.steward_decision_records as also
                    on mine.record_key = also.record_key
                where mine.decision_id = decision
            )
            and decisions.withdrawn_at is null
            and (decisions.valid_until is null or decisions.valid_until > now())
    )

    select min(earlier.decision_id)
    from told as new
    inner join told as earlier
        on
            new.judgement = earlier.judgement
            and new.decision_id <> earlier.decision_id
            and (
                (new.one, new.other) = (earlier.one, earlier.other)
                -- Which side is which says something in a split only.
                or (
                    new.judgement <> 'split'
                    and (new.one, new.other) = (earlier.other, earlier.one)
                )
            )
    where
        new.decision_id = decision
        and (earlier.valid_until is null or earlier.valid_until >= new.valid_until)
$function$;

-- Store a decision and its records; an error when one in force contradicts it, or says
-- the same: withdrawing one of the two would change nothing.
create or replace function gold.store_decision(
    judgement text,
    made_by text,
    arguments text,
    side_one bigint[],
    side_two bigint[],
    steward text,
    reason text,
    valid_until timestamptz
)
returns bigint
language plpgsql
as $function$
declare
    new_id bigint;
    first identity.steward_match_decisions;
begin
    perform gold.check_call(steward, reason, valid_until);
    -- One decision at a time, so that two stewards cannot contradict each other unseen.
    lock table identity.steward_match_decisions in share row exclusive mode;
    insert into identity.steward_match_decisions (
        judgement, made_by, call, steward, reason, valid_until
    )
    values (
        judgement, made_by, format('gold.%s(%s)', made_by, arguments), trim(steward), trim(reason), valid_until
    )
    returning decision_id into new_id;
    insert into identity.steward_decision_records (
        decision_id, record_key, side, source_system, record_id
    )
    select new_id, inputs.record_key, sides.side, inputs.source_system, inputs.record_id
    from (
        select unnest(side_one) as record_key, 1 as side
        union all
        select unnest(side_two), 2
    ) as sides
    inner join staging.identity_inputs as inputs
        on sides.record_key = inputs.record_key;
    select decisions.* into first
    from identity.steward_match_decisions as decisions
    where decisions.decision_id = gold.contradicted_decision(new_id);
    if found then
        raise exception 'this contradicts decision % (%) of % on %: %',
            first.decision_id, first.call, first.steward, first.decided_at::date, first.reason
            using hint = format(
                'If it no longer holds, first: select gold.steward_withdraw(%s, %L, ''why'');',
                first.decision_id, trim(steward)
            );
    end if;
    select decisions.* into first
    from identity.steward_match_decisions as decisions
    where decisions.decision_id = gold.repeated_decision(new_id);
    if found then
        raise exception 'decision % (%) of % on % says so already: %',
            first.decision_id, first.call, first.steward, first.decided_at::date, first.reason;
    end if;
    return new_id;
end
$function$;

create or replace function gold.steward_confirm(
    source_a text,
    record_a text,
    source_b text,
    record_b text,
    steward text,
    reason text,
    valid_until timestamptz default null
)
returns bigint
language plpgsql
as $function$
declare
    a bigint := gold.known_record(source_a, record_a);
    b bigint := gold.known_record(source_b, record_b);
begin
    if a = b then
        raise exception 'a decision needs two records, this is one: %:%', source_a, record_a;
    end if;
    return gold.store_decision(
        'same', 'steward_confirm',
        concat_ws(', ', quote_literal(source_a), quote_literal(record_a),
            quote_literal(source_b), quote_literal(record_b)),
        array[a], array[b], steward, reason, valid_until
    );
end
$function$;
comment on function gold.steward_confirm is
'These two records are one customer, whatever the scores say. Returns the decision''s number';

create or replace function gold.steward_reject(
    source_a text,
    record_a text,
    source_b text,
    record_b text,
    steward text,
    reason text,
    valid_until timestamptz default null
)
returns bigint
language plpgsql
as $function$
declare
    a bigint := gold.known_record(source_a, record_a);
    b bigint := gold.known_record(source_b, record_b);
begin
    if a = b then
        raise exception 'a decision needs two records, this is one: %:%', source_a, record_a;
    end if;
    return gold.store_decision(
        'different', 'steward_reject',
        concat_ws(', ', quote_literal(source_a), quote_literal(record_a),
            quote_literal(source_b), quote_literal(record_b)),
        array[a], array[b], steward, reason, valid_until
    );
end
$function$;
comment on function gold.steward_reject is
'These two records are different customers, also when a third one would chain them';

create or replace function gold.steward_merge(
    customer_a uuid,
    customer_b uuid,
    steward text,
    reason text,
    valid_until timestamptz default null
)
returns bigint
language plpgsql
as $function$
declare
    a uuid := gold.known_customer(customer_a);
    b uuid := gold.known_customer(customer_b);
begin
    if a = b then
        raise exception '% and % are one customer already', customer_a, customer_b;
    end if;
    return gold.store_decision(
        'same', 'steward_merge', concat_ws(', ', quote_literal(a), quote_literal(b)),
        array(
            select map.record_key from identity.memberships as map
            where map.global_customer_id = a
        ),
        array(
            select map.record_key from identity.memberships as map
            where map.global_customer_id = b
        ),
        steward, reason, valid_until
    );
end
$function$;
comment on function gold.steward_merge is
'These two customers are one: all records they have now belong together';

create or replace function gold.steward_split(
    customer uuid,
    records text[],
    steward text,
    reason text,
    valid_until timestamptz default null
)
returns bigint
language plpgsql
as $function$
declare
    id uuid := gold.known_customer(customer);
    parting bigint [];
    staying bigint [];
    stranger text;
begin
    if coalesce(cardinality(records), 0) = 0 then
        raise exception 'a split needs the records that leave, such as array[''sales:1017'']';
    end if;
    select listed.record into stranger
    from unnest(records) as listed (record)
    where not exists (
        select from identity.customer_identity_map as map
        where
            map.global_customer_id = id
            and map.source_system || ':' || map.record_id = listed.record
    )
    limit 1;
    if found then
        raise exception '% is no record of customer %', coalesce(quote_literal(stranger), 'null'), id
            using hint = (
                select 'Its records: ' || string_agg(shown.record, ', ') || '.'
                from (
                    select map.source_system || ':' || map.record_id as record
                    from identity.customer_identity_map as map
                    where map.global_customer_id = id
                    order by 1
                    limit 20
                ) as shown
            );
    end if;
    select
        array_agg(map.record_key) filter (where map.source_system || ':' || map.record_id = any(records)),
        array_agg(map.record_key) filter (where map.source_system || ':' || map.record_id <> all(records))
    into parting, staying
    from identity.customer_identity_map as map
    where map.global_customer_id = id;
    if staying is null then
        raise exception 'these are all records of customer %; a split leaves some behind', id;
    end if;
    return gold.store_decision(
        'split', 'steward_split', concat_ws(', ', quote_literal(id), quote_literal(records)),
        parting, staying, steward, reason, valid_until
    );
end
$function$;
comment on function gold.steward_split is
'These records (''source:record_id'') are not this customer but one of their own: they stay together, and apart from the records that remain';

-- Overrides --------------------------------------------------------------------

create or replace function gold.checked_value(attribute gold.canonical_attribute, value text)
returns text
language plpgsql stable
as $function$
declare
    given text := trim(regexp_replace(normalize(value), '\s+', ' ', 'g'));
    born date;
begin
    if coalesce(given, '') = '' then
        raise exception 'an override needs a value for %', attribute;
    end if;
    if given ~ '[[:cntrl:]]' or length(given) > 300 then
        raise exception 'that is no value for %: control characters, or more than 300 characters', attribute;
    end if;
    case attribute
        when 'email' then
            given := lower(given);
            if length(given) > 254 or given !~ (
                '^[^\s@.,;:<>()"\[\]\\]+(\.[^\s@.,;:<>()"\[\]\\]+)*'
                '@([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z][a-z0-9-]{0,61}[a-z0-9]$'
            ) then
                raise exception '% is no valid email', quote_literal(value)
                    using hint = 'Write it like anna.smith@example.com.';
            end if;
        when 'phone' then
            given := regexp_replace(given, '[\s()./-]+', '', 'g');
            if given !~ '^\+[1-9][0-9]{6,14}$' then
                raise exception '% is no valid phone', quote_literal(value)
                    using hint = 'Write it with its country code, like +14155550123.';
            end if;
        when 'birth_date' then
            begin
                born := given::date;
            exception when others then
                born := null;
            end;
            if given !~ '^[0-9]{4}-[0-9]{2}-[0-9]{2}$' or born is null
                or born not between '1000-01-01' and current_date
            then
                raise exception '% is no valid birth_date', quote_literal(value)
                    using hint = 'Write it like 1980-05-17.';
            end if;
        when 'national_id' then
            given := regexp_replace(lower(given), '[^[:alnum:]]+', '', 'g');
            if given !~ '[0-9]' or length(given) not between 5 and 30 then
                raise exception '% is no valid national_id', quote_literal(value)
                    using hint = 'It has 5 to 30 letters and digits.';
            end if;
        when 'postal_code' then
            given := lower(given);
            if given !~ '^[a-z0-9]([ -]?[a-z0-9]){2,9}$' or given !~ '[0-9]' then
                raise exception '% is no valid postal_code', quote_literal(value)
                    using hint = 'It has 3 to 10 letters and digits.';
            end if;
        else
            if given !~ '[[:alpha:]]' then
                raise exception '% is no valid %: it has no letter', quote_literal(value), attribute;
            end if;
            if trim(regexp_replace(lower(given), '[^[:alnum:] ]+', '', 'g')) in (
                'na', 'none', 'null', 'nil', 'unknown', 'not available', 'tbd', 'test', 'xxx'
            ) then
                raise exception '% is no valid %: it is a word for nothing', quote_literal(value), attribute
                    using hint = 'An override can only be another value; without one the sources count.';
            end if;
    end case;
    return given;
end
$function$;
comment on function gold.checked_value is
'A value as the pipeline would write it; an error where it would not take it';

create or replace function gold.steward_override(
    customer uuid,
    attribute text,
    value text,
    steward text,
    reason text,
    valid_until timestamptz default null
)
returns bigint
language plpgsql
as $function$
declare
    id uuid := gold.known_customer(customer);
    checked_attribute gold.canonical_attribute;
    new_id bigint;
    lasting gold.customer_steward_overrides;
begin
    perform gold.check_call(steward, reason, valid_until);
    if coalesce(attribute, '') <> all(enum_range(null::gold.canonical_attribute)::text []) then
        raise exception 'there is no attribute %', coalesce(quote_literal(attribute), 'null')
            using hint = 'It can be '
                || array_to_string(enum_range(null::gold.canonical_attribute), ', ') || '.';
    end if;
    checked_attribute := attribute::gold.canonical_attribute;
    lock table gold.customer_steward_overrides in share row exclusive mode;
    insert into gold.customer_steward_overrides (
        global_customer_id, attribute, value, steward, reason, valid_until
    )
    values (
        id, checked_attribute, gold.checked_value(checked_attribute, value),
        trim(steward), trim(reason), valid_until
    )
    returning override_id into new_id;
    update gold.customer_steward_overrides as earlier
    set
        withdrawn_at = now(),
        withdrawn_by = trim(steward_override.steward),
        withdrawn_reason = 'replaced by override ' || new_id
    where
        earlier.global_customer_id = id
        and earlier.attribute = checked_attribute
        and earlier.withdrawn_at is null
        and earlier.override_id <> new_id
        and (
            steward_override.valid_until is null
            or earlier.valid_until <= steward_override.valid_until
        );
    select earlier.* into lasting
    from gold.customer_steward_overrides as earlier
    where
        earlier.global_customer_id = id
        and earlier.attribute = checked_attribute
        and earlier.withdrawn_at is null
        and earlier.override_id <> new_id
    order by earlier.made_at desc, earlier.override_id desc
    limit 1;
    if found then
        raise notice 'from % override % of % counts again: %',
            steward_override.valid_until, lasting.override_id, lasting.steward, lasting.value;
    end if;
    return new_id;
end
$function$;
comment on function gold.steward_override is
'This is the value of the customer''s attribute, whatever the sources say. An earlier override of the same attribute, made for the same id, is withdrawn by it, unless it lasts longer: then it counts again when this one has ended';

create or replace function gold.steward_withdraw(decision bigint, steward text, reason text)
returns void
language plpgsql
as $function$
declare
    withdrawn timestamptz;
begin
    perform gold.check_call(steward, reason, null);
    update identity.steward_match_decisions as decisions
    set
        withdrawn_at = now(),
        withdrawn_by = trim(steward_withdraw.steward),
        withdrawn_reason = trim(steward_withdraw.reason)
    where decisions.decision_id = decision and decisions.withdrawn_at is null;
    if found then
        return;
    end if;
    update gold.customer_steward_overrides as overrides
    set
        withdrawn_at = now(),
        withdrawn_by = trim(steward_withdraw.steward),
        withdrawn_reason = trim(steward_withdraw.reason)
    where overrides.override_id = decision and overrides.withdrawn_at is null;
    if found then
        return;
    end if;
    update gold.steward_acknowledgements as acknowledgements
    set
        withdrawn_at = now(),
        withdrawn_by = trim(steward_withdraw.steward),
        withdrawn_reason = trim(steward_withdraw.reason)
    where acknowledgements.acknowledgement_id = decision and acknowledgements.withdrawn_at is null;
    if found then
        return;
    end if;
    select past.withdrawn_at into withdrawn
    from (
        select decisions.withdrawn_at from identity.steward_match_decisions as decisions
        where decisions.decision_id = decision
        union all
        select overrides.withdrawn_at from gold.customer_steward_overrides as overrides
        where overrides.override_id = decision
        union all
        select acknowledgements.withdrawn_at from gold.steward_acknowledgements as acknowledgements
        where acknowledgements.acknowledgement_id = decision
    ) as past;
    if found then
        raise exception 'decision % was withdrawn on % already', decision, withdrawn::date;
    end if;
    raise exception 'there is no decision %', coalesce(decision::text, 'null')
        using hint = 'select decision_id, call, steward, reason from identity.steward_match_decisions; '
            'select override_id, attribute, value, steward from gold.customer_steward_overrides; '
            'select acknowledgement_id, item, steward from gold.steward_acknowledgements; list them.';
end
$function$;
comment on function gold.steward_withdraw is
'A decision, override or acknowledgement, by its number, no longer holds';

-- The story of one customer --------------------------------------------------------

create or replace function gold.customer_timeline(customer uuid)
returns table (
    happened_at timestamptz,
    what text,
    story text,
    related_customer_id uuid,
    run_id integer
)
language sql stable
as $function$
    with versions as (
        select
            history.*,
            lag(history) over (order by history.version) as earlier
        from gold.dim_customers_history as history
        where history.global_customer_id = customer
    ),

    told_versions as (
        select
            versions.valid_from as happened_at,
            1 as turn,
            'version ' || versions.version as what,
            coalesce((
                select string_agg(
                    format(
                        case
                            when versions.earlier is null then '%1$s %3$s'
                            when now_said.value is null then '%1$s %2$s -> none'
                            when was_said.value is null then '%1$s %3$s'
                            else '%1$s %2$s -> %3$s'
                        end,
                        replace(now_said.key, 'canonical_', ''), was_said.value, now_said.value
                    ),
                    ', ' order by now_said.key
                )
                from jsonb_each_text(to_jsonb(versions)) as now_said
                left join jsonb_each_text(to_jsonb(versions.earlier)) as was_said
                    on now_said.key = was_said.key
                where
                    (now_said.key like 'canonical%' or now_said.key in ('record_count', 'source_count'))
                    and now_said.value is distinct from was_said.value
            ), 'as before') as story,
            null::uuid as related_customer_id,
            versions.run_id
        from versions
        union all
        select
            closed.valid_to,
            3,
            'closed',
            coalesce(
                'merged into ' || closed.merged_into,
                'erased by ' || erasures.requested_by || ': ' || erasures.reason,
                'its last record was withdrawn'
            ),
            closed.merged_into,
            closed.closed_run_id
        from gold.dim_customers_history as closed
        left join gold.erasures
            on
                closed.global_customer_id = erasures.global_customer_id
                and closed.closed_run_id = erasures.run_id
        where
            closed.global_customer_id = customer
            and closed.valid_to is not null
            and not exists (
                select from gold.dim_customers_history as successor
                where
                    successor.global_customer_id = closed.global_customer_id
                    and successor.version = closed.version + 1
                    and successor.valid_from = closed.valid_to
            )
    ),

    lineage as (
        select
            lineage.changed_at,
            0,
            lineage.change,
            format(
                case
                    when lineage.change = 'merge' and lineage.from_customer_id = customer
                        then '%s records went into %s: %s'
                    when lineage.change = 'merge' then '%s records came in from %s: %s'
                    when lineage.from_customer_id = customer then '%s records left as %s: %s'
                    else '%s records, split off %s: %s'
                end,
                lineage.record_count, other.id,
                lineage.reason || coalesce(' (decision ' || lineage.decision_id || ')', '')
            ),
            other.id,
            lineage.run_id
        from identity.customer_id_lineage as lineage
        cross join lateral (
            select
                case
                    when lineage.from_customer_id = customer then lineage.into_customer_id
                    else lineage.from_customer_id
                end as id
        ) as other
        where customer in (lineage.from_customer_id, lineage.into_customer_id)
    ),

    decisions as (
        select distinct decisions.*
        from identity.customer_identity_map as map
        inner join identity.steward_decision_records as records
            on map.record_key = records.record_key
        inner join identity.steward_match_decisions as decisions
            on records.decision_id = decisions.decision_id
        where customer in (map.global_customer_id, map.home_customer_id)
    ),

    said as (
        select
            decisions.decision_id,
            decisions.decided_at,
            decisions.call,
            decisions.steward,
            decisions.reason,
            decisions.valid_until,
            decisions.withdrawn_at,
            decisions.withdrawn_by,
            decisions.withdrawn_reason
        from decisions
        union all
        select
            overrides.override_id,
            overrides.made_at,
            format('gold.steward_override(%L, %L, %L)', overrides.global_customer_id,
                overrides.attribute, overrides.value),
            overrides.steward,
            overrides.reason,
            overrides.valid_until,
            overrides.withdrawn_at,
            overrides.withdrawn_by,
            overrides.withdrawn_reason
        from gold.customer_steward_overrides as overrides
        where
            overrides.global_customer_id = customer
            or identity.current_customer_id(overrides.global_customer_id) = customer
    )

    select
        told.happened_at,
        told.what,
        told.story,
        told.related_customer_id,
        told.run_id
    from (
        select * from told_versions
        union all
        select * from lineage
        union all
        select
            said.decided_at,
            2,
            'decision ' || said.decision_id,
            said.call || ' by ' || said.steward || ': ' || said.reason
            || coalesce(', until ' || to_char(said.valid_until, 'YYYY-MM-DD HH24:MI'), ''),
            null,
            null
        from said
        union all
        select
            said.withdrawn_at,
            2,
            'decision ' || said.decision_id || ' withdrawn',
            'by ' || said.withdrawn_by || ': ' || said.withdrawn_reason,
            null,
            null
        from said
        where said.withdrawn_at is not null
    ) as told
    order by told.happened_at, told.turn, told.what, told.story
$function$;
comment on function gold.customer_timeline is
'One row per thing that happened to a customer, in order: versions, merges, splits, decisions about its records, overrides. Any id that ever existed will do';
