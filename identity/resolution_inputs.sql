-- One row per live record of a touched profile.
-- :: records
select
    identity_inputs.record_key,
    identity_inputs.profile_key
from staging.identity_inputs
where
    not identity_inputs.is_deleted
    and (
        %(everything)s
        or identity_inputs.profile_key in (
            select touched_profiles.profile_key
            from touched_profiles
        )
    )
-- One row per touched profile; is_one_node: records that share it are one
-- person, as far as the model can tell.
-- :: profiles
select
    match_profiles.profile_key,
    match_profiles.birth_date,
    match_profiles.national_id,
    match_profiles.record_count = 1
    or candidates.match_decision = 'AUTO_MERGE'
    or (%(merge_flagged)s and candidates.match_decision = 'FLAG_REVIEW')
        as is_one_node,
    candidates.total_confidence_score
from staging.match_profiles
left join staging.identity_match_candidates as candidates
    on
        match_profiles.record_count > 1
        and match_profiles.profile_key = candidates.left_profile_key
        and match_profiles.profile_key = candidates.right_profile_key
where
    match_profiles.record_count > 0
    and (
        %(everything)s
        or match_profiles.profile_key in (
            select touched_profiles.profile_key
            from touched_profiles
        )
    )
-- One row per edge that merges, if nothing speaks against it.
-- :: links
select
    match_links.left_profile_key,
    match_links.right_profile_key,
    match_links.match_weight,
    match_links.total_confidence_score
from identity.match_links
where
    (match_links.match_decision = 'AUTO_MERGE' or %(merge_flagged)s)
    and (
        %(everything)s
        or match_links.left_profile_key in (
            select touched_profiles.profile_key
            from touched_profiles
        )
    )
-- One row per other compared pair of touched profiles.
-- :: evidence
select
    candidates.left_profile_key,
    candidates.right_profile_key,
    candidates.match_weight
from staging.identity_match_candidates as candidates
where
    candidates.rule_id > 0
    and candidates.left_profile_key < candidates.right_profile_key
    and not (
        candidates.match_decision = 'AUTO_MERGE'
        or (%(merge_flagged)s and candidates.match_decision = 'FLAG_REVIEW')
    )
    and (
        %(everything)s
        or (
            candidates.left_profile_key in (
                select touched_profiles.profile_key
                from touched_profiles
            )
            and candidates.right_profile_key in (
                select touched_profiles.profile_key
                from touched_profiles
            )
        )
    )
-- One row per record of an active decision of a steward.
-- :: decisions
select
    active.decision_id,
    active.judgement,
    active.record_key,
    active.side
from identity.active_steward_decisions as active
