-- One row per prefix: the last run that took objects from it.
insert into identity.ingestion_watermarks (phase, upstream, run_id)
values ('minio_to_raw', %(upstream)s, %(run_id)s)
on conflict (phase, upstream) do update
    set
        run_id = excluded.run_id,
        updated_at = now()
