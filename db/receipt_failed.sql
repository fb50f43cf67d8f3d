-- One receipt per run, phase and script: this one failed.
insert into gold.pipeline_phases (
    run_id, phase, script, status, started_at, finished_at, seconds, detail
)
values (
    %(run_id)s,
    %(phase)s,
    %(script)s,
    'failed',
    now(),
    now(),
    %(seconds)s,
    %(detail)s
)
on conflict (run_id, phase, script) do update
    set status = 'failed', detail = excluded.detail
