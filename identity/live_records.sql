-- One row per live record of these inputs.
select
    inputs.record_key,
    inputs.profile_key,
    inputs.run_id > %(input_mark)s as is_changed,
    inputs.source_system,
    inputs.record_id
from {inputs} as inputs
where not inputs.is_deleted
