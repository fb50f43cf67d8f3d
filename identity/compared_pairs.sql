-- One row per compared pair in force of these candidates; decision: 2 merges, 1 is flagged, 0 is rejected.
select
    candidates.left_profile_key,
    candidates.right_profile_key,
    candidates.match_weight,
    candidates.decision
from {candidates} as candidates
where candidates.rules >= 0 and {which}
