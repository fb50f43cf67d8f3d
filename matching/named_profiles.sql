-- One row per profile that a pair listed since the mark names.
select blocked.left_profile_key as profile_key
from staging.identity_match_candidates_blocked as blocked
where blocked.run_id > {mark} and blocked.rule_id >= 0
union
select blocked.right_profile_key
from staging.identity_match_candidates_blocked as blocked
where blocked.run_id > {mark} and blocked.rule_id >= 0
