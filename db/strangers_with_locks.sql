-- One row per session that is not the pipeline's and holds a lock in this database: its number, its program, and since
-- when its transaction is open. The oldest first; of a table, or of the pipeline itself.
select
    sessions.pid,
    sessions.application_name,
    sessions.xact_start
from pg_stat_activity as sessions
where
    sessions.datname = current_database()
    and sessions.backend_type = 'client backend'
    and sessions.application_name <> %(application)s
    and sessions.pid <> pg_backend_pid()
    and exists (
        select 1
        from pg_locks as locks
        where
            locks.pid = sessions.pid
            and locks.granted
            and case
                when %(namespace)s::bigint is null then locks.locktype = 'relation'
                else
                    locks.locktype = 'advisory'
                    and locks.classid = %(namespace)s
            end
    )
order by sessions.xact_start, sessions.pid;
