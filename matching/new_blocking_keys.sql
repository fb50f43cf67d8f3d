-- One row per live profile of a part of the table that came to life since the mark, or had its second record: the
-- hash of its key under each rule, 0 where the rule says nothing.
select
    p.profile_key,
    {keys}
from staging.match_profiles as p
where
    p.run_id > %(mark)s
    and p.record_count > 0
    and p.ctid >= %(first)s::tid
    and p.ctid < %(last)s::tid
