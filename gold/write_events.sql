-- One row per customer whose golden record is not the version that the last event about it brought.

-- What consumers believe: no row where the customer is unknown or gone. The last event of each is looked up by
-- itself, and so are the two versions, so the cost follows the customers and not all events.
create temp table believed on commit drop as
select
    changed_versions.global_customer_id,
    last_changes.new_version as version,
    array_remove(
        array[
            case
                when
                    earlier.canonical_name
                    is distinct from later.canonical_name
                    then 'name'
            end,
            case
                when
                    earlier.canonical_email
                    is distinct from later.canonical_email
                    then 'email'
            end,
            case
                when
                    earlier.canonical_phone
                    is distinct from later.canonical_phone
                    then 'phone'
            end,
            case
                when
                    earlier.canonical_birth_date
                    is distinct from later.canonical_birth_date
                    then 'birth_date'
            end,
            case
                when
                    earlier.canonical_national_id
                    is distinct from later.canonical_national_id
                    then 'national_id'
            end,
            case
                when
                    earlier.canonical_address
                    is distinct from later.canonical_address
                    then 'address'
            end,
            case
                when
                    earlier.canonical_city
                    is distinct from later.canonical_city
                    then 'city'
            end,
            case
                when
                    earlier.canonical_postal_code
                    is distinct from later.canonical_postal_code
                    then 'postal_code'
            end,
            case
                when earlier.record_count <> later.record_count
                    then 'record_count'
            end,
            case
                when earlier.source_count <> later.source_count
                    then 'source_count'
            end
        ],
        null
    ) as changed_attributes
from changed_versions
cross join
    lateral (
        select changes.new_version
        from gold.customer_changes as changes
        where changes.global_customer_id = changed_versions.global_customer_id
        order by changes.event_seq desc
        limit 1
    ) as last_changes
cross join
    lateral (
        select history.*
        from gold.dim_customers_history as history
        where
            history.global_customer_id = changed_versions.global_customer_id
            and history.version = last_changes.new_version
        limit 1 -- noqa: AM09
    ) as earlier
left join
    lateral (
        select history.*
        from gold.dim_customers_history as history
        where
            history.global_customer_id = changed_versions.global_customer_id
            and history.version = changed_versions.version
        limit 1 -- noqa: AM09
    ) as later
    on true
-- Asked once: the first time there is nothing to look up.
where exists (select from gold.customer_changes);

analyze believed;

with splits as materialized (
    select distinct on (lineage.into_customer_id)
        lineage.into_customer_id,
        lineage.from_customer_id
    from identity.customer_id_lineage as lineage
    where lineage.change = 'split' and lineage.run_id > %(split_mark)s
    order by lineage.into_customer_id asc, lineage.lineage_id desc
),

changes as (
    select
        changed_versions.global_customer_id,
        believed.version as old_version,
        changed_versions.version as new_version,
        changed_versions.valid_from,
        splits.from_customer_id,
        case
            when changed_versions.version is null then 'DELETE'::gold.change_type
            when believed.version is not null then 'UPDATE'
            when splits.from_customer_id is not null then 'SPLIT'
            else 'INSERT'
        end as change_type,
        case when changed_versions.version is not null then believed.changed_attributes end
            as changed_attributes
    from changed_versions
    left join believed
        on changed_versions.global_customer_id = believed.global_customer_id
    left join splits
        on changed_versions.global_customer_id = splits.into_customer_id
    where believed.version is distinct from changed_versions.version
),

typed as (
    select
        changes.global_customer_id,
        changes.old_version,
        changes.new_version,
        changes.changed_attributes,
        coalesce(changes.valid_from, closed.valid_to) as occurred_at,
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

insert into gold.customer_changes (
    event_seq,
    occurred_at,
    global_customer_id,
    related_customer_id,
    run_id,
    change_type,
    old_version,
    new_version,
    changed_attributes
)
select
    %(last_event_seq)s + row_number() over (
        order by typed.change_type, typed.global_customer_id
    ),
    typed.occurred_at,
    typed.global_customer_id,
    typed.related_customer_id,
    %(run_id)s,
    typed.change_type,
    typed.old_version,
    typed.new_version,
    typed.changed_attributes
from typed;
