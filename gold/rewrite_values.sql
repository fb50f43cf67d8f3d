-- The rows at the addresses in rewritten_values become what that says.
update gold.attribute_values
set
    record_key = rewritten_values.record_key,
    first_seen = rewritten_values.first_seen,
    last_seen = rewritten_values.last_seen,
    record_count = rewritten_values.record_count,
    run_id = rewritten_values.run_id,
    kind = rewritten_values.kind,
    value = rewritten_values.value
from rewritten_values
where attribute_values.ctid = rewritten_values.row_address::tid;

drop table rewritten_values
