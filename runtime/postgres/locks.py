"""Which sessions hold locks in PostgreSQL, and how long a session may wait for one."""

from typing import Final

from mediabus.runtime.postgres.database import Connection

LIMIT_LOCK_WAIT: Final = "SET LOCAL lock_timeout = '1s'"
"""A session that waits for a table lock blocks all later ones, so this limits the wait."""

BLOCKED: Final = """
SELECT count(DISTINCT waiting.pid) AS waiting,
       string_agg(DISTINCT format('pid %s (%s, %s, %s, for %s s)', holder.pid, holder.usename,
           coalesce(nullif(holder.application_name, ''), 'no application name'), holder.state,
           round(extract(epoch FROM clock_timestamp() - holder.xact_start))), '; ') AS holders
FROM pg_stat_activity AS waiting
CROSS JOIN LATERAL unnest(pg_blocking_pids(waiting.pid)) AS blocker (pid)
JOIN pg_stat_activity AS holder ON holder.pid = blocker.pid
WHERE waiting.datname = current_database() AND waiting.wait_event_type = 'Lock'
"""
LOCK_HOLDERS: Final = """
SELECT a.pid, a.usename::text AS login, a.application_name AS program,
       coalesce(a.state, '?') AS state,
       extract(epoch FROM clock_timestamp() - a.xact_start)::float8 AS age,
       string_agg(DISTINCT l.relation::regclass::text, ', ') AS relations
FROM pg_locks AS l JOIN pg_stat_activity AS a ON a.pid = l.pid
WHERE l.granted AND l.locktype = 'relation' AND a.pid <> pg_backend_pid()
  AND a.backend_type = 'client backend'
  AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
  AND l.relation IN (SELECT oid FROM pg_class WHERE relnamespace = current_schema()::regnamespace)
GROUP BY a.pid, a.usename, a.application_name, a.state, a.xact_start
ORDER BY a.xact_start NULLS LAST LIMIT 5
"""


async def blocked_by(connection: Connection) -> str | None:
    """Describe the sessions that block others in this database. None if there are none."""
    [row] = await connection.fetch(BLOCKED)
    if not row["waiting"]:
        return None
    return f"{row['waiting']} wait for a lock that is held by {row['holders']}"


async def lock_holders(connection: Connection, *, older_than: float = 0.0) -> list[str]:
    """Describe the sessions that hold locks on tables, longest transactions first.

    Leaves out transactions younger than ``older_than`` seconds.
    """
    rows = await connection.fetch(LOCK_HOLDERS)
    return [
        f"pid {row['pid']} ({row['login']}, {row['program'] or 'no application name'}, "
        f"{row['state']}, transaction of {row['age'] or 0:.0f} s, on {row['relations']})"
        for row in rows
        if (row["age"] or 0.0) >= older_than
    ]
