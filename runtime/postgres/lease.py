"""A lease in PostgreSQL: of several processes, only the holder does the work.

The holder increments a counter. The standbys take over when the counter has not changed for a while
by their own monotonic clocks. So a holder that was stopped, disconnected or killed loses the lease,
and wall clocks do not matter.
"""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Coroutine
from typing import Any, Final
from uuid import UUID, uuid4

import asyncpg

from mediabus.runtime.postgres.database import AWAY, Pool

log: Final = logging.getLogger("mediabus.lease")

BEAT_EVERY: Final = 0.75
EXPIRES_AFTER: Final = 3.0
"""Seconds without a beat. A standby polls once per beat, so it takes over within 5 s."""

READ: Final = "SELECT holder, beat FROM leases WHERE name = $1"
TAKE: Final = """
INSERT INTO leases (name, holder, beat) VALUES ($1, $2, 1)
ON CONFLICT (name) DO UPDATE SET holder = $2, beat = leases.beat + 1
    WHERE leases.holder = $3 AND leases.beat = $4
RETURNING beat
"""
BEAT: Final = "UPDATE leases SET beat = beat + 1 WHERE name = $1 AND holder = $2 RETURNING beat"
LEAVE: Final = "DELETE FROM leases WHERE name = $1 AND holder = $2"


async def while_leading(
    pool: Pool, name: str, work: Callable[[], Coroutine[Any, Any, None]]
) -> None:
    """Run ``work`` while this process holds the lease, until cancelled.

    Cancels ``work`` when the lease is lost. ``work`` must tolerate a short overlap with a former
    holder that was suspended and wakes up.
    """
    me = uuid4()
    while True:
        try:
            await _take(pool, name, me)
            log.info("lease acquired", extra={"lease": name})
            await _work_and_beat(pool, name, me, work)
            log.warning("lease lost", extra={"lease": name})
        # The work may be a task group. Any error of PostgreSQL may be fixed while we retry.
        except* (*AWAY, asyncpg.PostgresError) as failure:
            log.warning(
                "lease interrupted, will retry", extra={"lease": name, "error": str(failure)}
            )
        await asyncio.sleep(BEAT_EVERY)


async def _take(pool: Pool, name: str, me: UUID) -> None:
    """Wait until the lease is free or expired, and acquire it."""
    clock = asyncio.get_running_loop().time
    seen, seen_at = None, clock()
    while True:
        row = await pool.fetchrow(READ, name)
        found = (row["holder"], row["beat"]) if row else None
        if found != seen:
            seen, seen_at = found, clock()
        if found is None or clock() - seen_at >= EXPIRES_AFTER:
            holder, beat = found or (None, None)
            if await pool.fetchval(TAKE, name, me, holder, beat) is not None:
                return
        await asyncio.sleep(BEAT_EVERY)


async def _work_and_beat(
    pool: Pool, name: str, me: UUID, work: Callable[[], Coroutine[Any, Any, None]]
) -> None:
    working = asyncio.create_task(work(), name=f"leader of {name}")
    try:
        while await _still_mine(pool, name, me):
            done, _ = await asyncio.wait([working], timeout=BEAT_EVERY)
            if done:
                working.result()
                return
    finally:
        working.cancel()
        await asyncio.wait([working])
        with contextlib.suppress(*AWAY, asyncpg.PostgresError):
            await asyncio.wait_for(pool.execute(LEAVE, name, me), timeout=2)


async def _still_mine(pool: Pool, name: str, me: UUID) -> bool:
    """Send a beat. Return False if the lease is lost.

    The lease survives an outage of PostgreSQL that is shorter than EXPIRES_AFTER.
    """
    clock = asyncio.get_running_loop().time
    deadline = clock() + EXPIRES_AFTER
    while True:
        try:
            async with asyncio.timeout_at(deadline):
                return await pool.fetchval(BEAT, name, me) is not None
        except (*AWAY, asyncpg.PostgresError):
            if clock() >= deadline:
                return False
            await asyncio.sleep(0.1)
