-- One row per record withdrawn at its source since the mark: it leaves its customer.
delete from identity.customer_identity_map
using staging.identity_inputs
where
    customer_identity_map.record_key = identity_inputs.record_key
    and identity_inputs.is_deleted
    and identity_inputs.run_id > %(input_mark)s
returning customer_identity_map.global_customer_id
