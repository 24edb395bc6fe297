"""Partitions made ahead of time, and dropped when their month is past keeping."""

import asyncio
import datetime
import logging
import re
from typing import Final

import asyncpg

from service.runtime.database import AWAY, LIMIT_LOCK_WAIT, Pool

log: Final = logging.getLogger("mediabus.persister")

LOOK_EVERY: Final = 3600.0
RETRY_AFTER: Final = 30.0
"""Seconds; meanwhile the persister makes the months that it needs."""

AHEAD: Final = datetime.timedelta(days=7)

PARTITIONS: Final = """
SELECT c.relname FROM pg_inherits AS i JOIN pg_class AS c ON c.oid = i.inhrelid
WHERE i.inhparent = 'events'::regclass ORDER BY c.relname
"""
ENSURE_PARTITION: Final = "SELECT ensure_events_partition($1)"
DROP_PARTITION: Final = "SELECT drop_events_partition($1)"


async def keep_partitions(pool: Pool, keep_months: int | None) -> None:
    """Looks after the partitions for ever."""
    while True:
        try:
            now = datetime.datetime.now(datetime.UTC)
            for moment in (now, now + AHEAD):
                await pool.execute(ENSURE_PARTITION, moment)
            if keep_months is not None:
                await drop_expired(pool, keep_months, now)
        except (*AWAY, asyncpg.PostgresError) as error:  # a backup runs, a view needs the month
            log.warning("partitions wait for PostgreSQL: %s", error)
            await asyncio.sleep(RETRY_AFTER)
        else:
            await asyncio.sleep(LOOK_EVERY)


async def drop_expired(pool: Pool, keep_months: int, now: datetime.datetime) -> list[str]:
    """Drops the partitions of months that ended ``keep_months`` ago or earlier, and names them.
    Raises LockNotAvailableError while somebody reads the table for long."""
    names = [row["relname"] for row in await pool.fetch(PARTITIONS)]
    expired = [name for name in names if is_expired(name, keep_months, now)]
    for name in expired:
        async with pool.acquire() as connection, connection.transaction():
            await connection.execute(LIMIT_LOCK_WAIT)
            await connection.execute(DROP_PARTITION, name)  # another persister may be faster
        log.info("month dropped", extra={"partition": name})
    return expired


def is_expired(partition: str, keep_months: int, now: datetime.datetime) -> bool:
    """Whether every event in ``events_YYYY_MM`` is older than ``keep_months`` whole months."""
    matched = re.fullmatch(r"events_(\d{4})_(\d{2})", partition)
    if not matched:
        return False
    month = int(matched[1]) * 12 + int(matched[2]) - 1
    return now.year * 12 + now.month - 1 - month > keep_months
