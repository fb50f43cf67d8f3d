-- One row per table of the pipeline: bytes of its rows, of its indexes and of its values stored apart (TOAST).
select
    pg_namespace.nspname || '.' || pg_class.relname as table_name,
    pg_table_size(pg_class.oid) - coalesce(pg_total_relation_size(nullif(pg_class.reltoastrelid, 0)), 0) as heap_bytes,
    pg_indexes_size(pg_class.oid) as index_bytes,
    coalesce(pg_total_relation_size(nullif(pg_class.reltoastrelid, 0)), 0) as toast_bytes,
    pg_total_relation_size(pg_class.oid) as total_bytes
from pg_class
inner join pg_namespace on pg_class.relnamespace = pg_namespace.oid
where
    pg_namespace.nspname in ('raw', 'staging', 'identity', 'gold')
    and pg_class.relkind in ('r', 'm')
order by total_bytes desc, table_name asc
