-- One row per customer whose golden record is not what the last event about it said.

-- What consumers believe: no row where the customer is unknown or gone. The last event of each is looked up by
-- itself, so the cost follows the customers and not all events.
create temp table believed on commit drop as
select
    working_customers.global_customer_id,
    last_events.occurred_at,
    last_events.new_record
from gold.working_customers
cross join
    lateral (
        select
            events.change_type,
            events.occurred_at,
            events.new_record
        from gold.customer_change_events as events
        where events.global_customer_id = working_customers.global_customer_id
        order by events.event_seq desc
        limit 1
    ) as last_events
where last_events.change_type in ('INSERT', 'SPLIT', 'UPDATE');

analyze believed;

with splits as (
    select distinct on (lineage.into_customer_id)
        lineage.into_customer_id,
        lineage.from_customer_id
    from identity.customer_id_lineage as lineage
    where lineage.change = 'split' and lineage.run_id > %(split_mark)s
    order by lineage.into_customer_id asc, lineage.lineage_id desc
),

records as (
    select
        working_customers.global_customer_id,
        customers.updated_at,
        believed.occurred_at,
        believed.new_record as old_record,
        -- What the event's own columns do not say; absent means null.
        case
            when customers.global_customer_id is not null
                then
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
                    )
        end as new_record
    from gold.working_customers
    left join gold.dim_customers as customers
        on working_customers.global_customer_id = customers.global_customer_id
    left join believed
        on working_customers.global_customer_id = believed.global_customer_id
    -- A fence: each record is made once.
    offset 0 -- noqa: AM09
),

changes as (
    select
        records.global_customer_id,
        records.updated_at,
        records.old_record,
        records.new_record,
        splits.from_customer_id,
        case
            when records.new_record is null then 'DELETE'::gold.change_type
            when records.old_record is not null then 'UPDATE'
            when splits.from_customer_id is not null then 'SPLIT'
            else 'INSERT'
        end as change_type
    from records
    left join splits
        on records.global_customer_id = splits.into_customer_id
    where
        records.old_record is distinct from records.new_record
        or records.occurred_at <> records.updated_at
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
    left join lateral (
        select
            history.valid_to,
            history.merged_into
        from gold.dim_customers_history as history
        where
            changes.change_type = 'DELETE'
            and history.global_customer_id = changes.global_customer_id
        order by history.version desc
        limit 1
    ) as closed on true
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
