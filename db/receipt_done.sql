-- One receipt per run, phase and script; a part run later adds to it.
insert into gold.pipeline_phases as receipt (
    run_id,
    phase,
    script,
    status,
    started_at,
    finished_at,
    seconds,
    rows_in,
    rows_out,
    detail
)
values (
    %(run_id)s,
    %(phase)s,
    %(script)s,
    'done',
    %(started_at)s,
    clock_timestamp(),
    %(seconds)s,
    %(rows_in)s,
    %(rows_out)s,
    %(detail)s
)
on conflict (run_id, phase, script) do update
    set
        status = 'done',
        started_at = excluded.started_at,
        finished_at = excluded.finished_at,
        seconds = receipt.seconds + excluded.seconds,
        rows_in = receipt.rows_in + excluded.rows_in,
        rows_out = receipt.rows_out + excluded.rows_out,
        detail = receipt.detail || excluded.detail
