-- One row per run since the current model's own: how its merged pairs spread
-- over the levels of each comparison, as its receipt says.
select
    phases.run_id = models.run_id as is_training,
    phases.detail -> 'match_levels' as match_levels
from identity.match_models as models
inner join gold.pipeline_phases as phases
    on
        models.run_id <= phases.run_id
        and phases.script = 'run_matching_engine'
        and phases.detail ? 'match_levels'
where models.is_current
order by phases.run_id
