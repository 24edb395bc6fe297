"""Create the monthly partitions of ``events`` ahead of time and drop expired ones."""

import asyncio
import datetime
import logging
import re
import time
from typing import Final

import asyncpg

from mediabus.runtime.postgres.database import AWAY, Pool
from mediabus.runtime.postgres.locks import LIMIT_LOCK_WAIT

log: Final = logging.getLogger("mediabus.persister")

CHECK_EVERY: Final = 3600.0
RETRY_AFTER: Final = 30.0
"""Seconds. In the meantime the persister creates the partitions that it needs."""

AHEAD: Final = tuple(datetime.timedelta(days=days) for days in (0, 31, 62))
CLOCKS_DIFFER: Final = datetime.timedelta(days=1)
"""If two clocks differ by more than this, one of them is wrong."""

DISTRUSTED_FOR: Final = 86_400.0
"""Seconds after a clock jump in which nothing is dropped."""

EPOCH: Final = datetime.datetime.fromtimestamp(0, datetime.UTC)

MAX_EVENT_AGE: Final = datetime.timedelta(days=62)
"""If the newest event is older than this, the clock may have jumped ahead. Then the time of that
event is used instead of the clock, so an idle library keeps its partitions for longer."""

PARTITIONS: Final = """
SELECT c.relname FROM pg_inherits AS i JOIN pg_class AS c ON c.oid = i.inhrelid
WHERE i.inhparent = 'events'::regclass ORDER BY c.relname
"""
CLOCKS: Final = """
SELECT clock_timestamp() AS server,
       (SELECT max(occurred_at) FROM events WHERE occurred_at < now()) AS newest
"""
ENSURE_PARTITION: Final = "SELECT ensure_events_partition($1)"
DROP_PARTITION: Final = "SELECT drop_events_partition($1)"


class ClockIsWrong(Exception):
    """The clock of this machine cannot be trusted, so nothing is dropped."""


async def keep_partitions(pool: Pool, keep_months: int | None) -> None:
    """Create partitions ahead of time and drop expired ones, until cancelled."""
    clock = JumpingClock()
    while True:
        try:
            now = datetime.datetime.now(datetime.UTC)
            for distance in AHEAD:
                await pool.execute(ENSURE_PARTITION, now + distance)
            if keep_months is not None:
                clock.check(now, seconds_since_boot())
                await drop_expired(pool, keep_months, now)
        except ClockIsWrong as error:
            log.error("partition not dropped, clock is wrong", extra={"reason": str(error)})
            await asyncio.sleep(CHECK_EVERY)
        except (*AWAY, asyncpg.PostgresError) as error:  # such as a running backup, or a view
            log.warning("partitions not maintained, will retry", extra={"error": str(error)})
            await asyncio.sleep(RETRY_AFTER)
        else:
            await asyncio.sleep(CHECK_EVERY)


class JumpingClock:
    """Detects jumps of the wall clock."""

    def __init__(self) -> None:
        self._offset: datetime.timedelta | None = None
        self._distrusted_until = 0.0

    def check(self, now: datetime.datetime, elapsed: float) -> None:
        """Raise ClockIsWrong within a day after the wall clock jumped by more than a day.

        ``elapsed`` is the result of ``seconds_since_boot``.
        """
        offset = now - EPOCH - datetime.timedelta(seconds=elapsed)
        jump = offset - (self._offset if self._offset is not None else offset)
        self._offset = offset
        if abs(jump) > CLOCKS_DIFFER:
            self._distrusted_until = elapsed + DISTRUSTED_FOR
        if elapsed < self._distrusted_until:
            raise ClockIsWrong(
                f"the clock of this machine was set to {now:%Y-%m-%d} within the last day. If the "
                "date is wrong, correct it now"
            )


def seconds_since_boot() -> float:
    """Return the seconds since boot, including those in which the machine was suspended."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


async def drop_expired(pool: Pool, keep_months: int, now: datetime.datetime) -> list[str]:
    """Drop the oldest partition that ended at least ``keep_months`` ago, and return its name.

    Drops one partition at a time, which leaves time to notice a wrong clock.

    Raises:
        ClockIsWrong: if the clock cannot be trusted.
        asyncpg.LockNotAvailableError: while a long transaction reads the table.
    """
    present = await _present(pool, now)
    names = [row["relname"] for row in await pool.fetch(PARTITIONS)]
    expired = [name for name in names if is_expired(name, keep_months, present)]
    for name in expired[:1]:
        async with pool.acquire() as connection, connection.transaction():
            await connection.execute(LIMIT_LOCK_WAIT)
            await connection.execute(DROP_PARTITION, name)  # does nothing if it is gone
        log.info("partition dropped", extra={"partition": name, "expired": len(expired)})
    return expired[:1]


async def _present(pool: Pool, now: datetime.datetime) -> datetime.datetime:
    """Return the current time, or that of the newest event if the library was idle for long."""
    [clocks] = await pool.fetch(CLOCKS)
    server: datetime.datetime = clocks["server"]
    newest: datetime.datetime | None = clocks["newest"]
    if abs(server - now) > CLOCKS_DIFFER:
        raise ClockIsWrong(
            f"the clock of this machine is at {now:%Y-%m-%d}, that of PostgreSQL at "
            f"{server:%Y-%m-%d}: correct the wrong one"
        )
    if newest is not None and now - newest > MAX_EVENT_AGE:
        return newest
    return now


def is_expired(partition: str, keep_months: int, now: datetime.datetime) -> bool:
    """Return whether all events in ``events_YYYY_MM`` are older than ``keep_months`` months."""
    matched = re.fullmatch(r"events_(\d{4,})_(\d{2})", partition)
    if not matched:
        return False
    month = int(matched[1]) * 12 + int(matched[2]) - 1
    return now.year * 12 + now.month - 1 - month > keep_months
