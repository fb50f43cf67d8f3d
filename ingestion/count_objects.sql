-- Write down what was found in the objects of this transaction.
update raw.ingested_objects as objects
set row_count = found.row_count, rejected_count = found.rejected_count
from
    unnest(
        %(ids)s::integer[], %(rows)s::bigint[], %(rejected)s::bigint[]
    ) as found (object_id, row_count, rejected_count)
where
    objects.object_id = found.object_id
    and (found.row_count > 0 or found.rejected_count > 0)
