-- One row per pair that is compared again: its former comparison goes.
delete from staging.compared_pairs as candidates
using recompared
where
    candidates.left_profile_key = recompared.left_profile_key
    and candidates.right_profile_key = recompared.right_profile_key
