-- One row per customer whose golden record is not what the last event about it said.

create unlogged table gold.working_records as
select
    customers.global_customer_id,
    customers.updated_at,
    -- What the event's own columns do not say; absent means null.
    json_object(
        'run_id': customers.run_id,
        'created_at': customers.created_at,
        'record_count': customers.record_count,
        'source_count': customers.source_count,
        'canonical_name': customers.canonical_name,
        'canonical_email': customers.canonical_email,
        'canonical_phone': customers.canonical_phone,
        'canonical_birth_date': customers.canonical_birth_date,
        'canonical_national_id': customers.canonical_national_id,
        'canonical_address': customers.canonical_address,
        'canonical_city': customers.canonical_city,
        'canonical_postal_code': customers.canonical_postal_code
        absent on null
        returning jsonb
    ) as new_record
from gold.working_customers
inner join gold.dim_customers as customers
    on working_customers.global_customer_id = customers.global_customer_id;

with last_numbers as (
    select
        events.global_customer_id,
        max(events.event_seq) as event_seq
    from gold.working_customers
    inner join gold.customer_change_events as events
        on working_customers.global_customer_id = events.global_customer_id
    group by events.global_customer_id
),

-- What consumers believe: no row where the customer is unknown or gone.
believed as (
    select
        events.global_customer_id,
        events.occurred_at,
        events.new_record
    from last_numbers
    inner join gold.customer_change_events as events
        on last_numbers.event_seq = events.event_seq
    where events.change_type in ('INSERT', 'SPLIT', 'UPDATE')
),

splits as (
    select distinct on (lineage.into_customer_id)
        lineage.into_customer_id,
        lineage.from_customer_id
    from identity.customer_id_lineage as lineage
    where lineage.change = 'split' and lineage.run_id > %(split_mark)s
    order by lineage.into_customer_id asc, lineage.lineage_id desc
),

changes as (
    select
        global_customer_id,
        working_records.updated_at,
        splits.from_customer_id,
        believed.new_record as old_record,
        working_records.new_record,
        case
            when working_records.new_record is null then 'DELETE'
            when believed.new_record is not null then 'UPDATE'
            when splits.from_customer_id is not null then 'SPLIT'
            else 'INSERT'
        end::gold.change_type as change_type
    from gold.working_records
    full outer join believed using (global_customer_id)
    left join splits
        on working_records.global_customer_id = splits.into_customer_id
    where
        believed.new_record is distinct from working_records.new_record
        or believed.occurred_at <> working_records.updated_at
),

closed as (
    select distinct on (history.global_customer_id)
        history.global_customer_id,
        history.valid_to,
        history.merged_into
    from changes
    inner join gold.dim_customers_history as history
        on changes.global_customer_id = history.global_customer_id
    where changes.change_type = 'DELETE'
    order by history.global_customer_id asc, history.version desc
),

typed as (
    select
        changes.global_customer_id,
        changes.old_record,
        changes.new_record,
        coalesce(changes.updated_at, closed.valid_to) as occurred_at,
        case
            when closed.merged_into is not null then 'MERGE'
            else changes.change_type
        end as change_type,
        case changes.change_type
            when 'DELETE' then closed.merged_into
            when 'SPLIT' then changes.from_customer_id
        end as related_customer_id
    from changes
    left join closed
        on changes.global_customer_id = closed.global_customer_id
)

insert into gold.customer_change_events (
    event_seq,
    occurred_at,
    run_id,
    change_type,
    global_customer_id,
    related_customer_id,
    changed_attributes,
    old_record,
    new_record
)
select
    %(last_event_seq)s + row_number() over (
        order by typed.change_type, typed.global_customer_id
    ),
    typed.occurred_at,
    %(run_id)s,
    typed.change_type,
    typed.global_customer_id,
    typed.related_customer_id,
    case
        when typed.change_type = 'UPDATE' then array(
            select replace(attribute, 'canonical_', '')
            from
                unnest(
                    '{
                    canonical_name, canonical_email, canonical_phone,
                    canonical_birth_date, canonical_national_id,
                    canonical_address, canonical_city, canonical_postal_code,
                    record_count, source_count
                }'::text[]
                ) as attribute
            where
                typed.old_record -> attribute is distinct from typed.new_record -> attribute
        )
    end,
    typed.old_record,
    typed.new_record
from typed;
