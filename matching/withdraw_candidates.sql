-- One row per pair that no blocking rule finds any more: it counts for nothing.
update staging.compared_pairs as candidates
set
    run_id = %(run_id)s,
    rules = -1,
    match_weight = -100,
    decision = 0
from staging.identity_match_candidates_blocked as blocked
where
    blocked.run_id > %(mark)s
    and blocked.rule_id = -1
    and candidates.left_profile_key = blocked.left_profile_key
    and candidates.right_profile_key = blocked.right_profile_key
