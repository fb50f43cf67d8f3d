-- One row per record withdrawn at its source since the mark: it leaves its customer.
delete from identity.memberships
using staging.identity_inputs
where
    memberships.record_key = identity_inputs.record_key
    and identity_inputs.is_deleted
    and identity_inputs.run_id > %(input_mark)s
returning memberships.global_customer_id
