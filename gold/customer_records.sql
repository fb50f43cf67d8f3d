-- One row per source record, with its canonical attributes: those of some keys, or all, of a source; 0 is any.
select
    record_key,
    -- Microseconds; staging lets no time through of which a float does not hold them exactly.
    (date_part('epoch', event_ts) * 1e6)::bigint as event_ts,
    source_system,
    name,
    email,
    phone,
    birth_date,
    national_id,
    address,
    city,
    postal_code
from staging.identity_inputs
where
    -- Each source has a table of its own: those of another are not looked for in it.
    %(source_number)s in (0, source_number)
    and (
        %(record_keys)s::bigint[] is null
        or record_key = any(%(record_keys)s::bigint[])
    )
