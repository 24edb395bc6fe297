"""A lease: of many processes that could do a work, one does it.

The holder counts its beats up in a row; the others take over when the count has stood still for
a while by their own clocks. So a holder that was stopped, cut off or killed loses its lease, and
no wall clock matters.
"""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Coroutine
from typing import Any, Final
from uuid import UUID, uuid4

from service.runtime.database import AWAY, Pool

log: Final = logging.getLogger("mediabus.lease")

BEAT_EVERY: Final = 0.75
EXPIRES_AFTER: Final = 3.0
"""Seconds without a beat; with one look a beat, another holder works within 5 s."""

LOOK: Final = "SELECT holder, beat FROM leases WHERE name = $1"
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
    """Runs ``work`` whenever this process holds the lease, for ever; cancels it when the lease is
    lost. What ``work`` does must bear a short overlap with a former holder that wakes up."""
    me = uuid4()
    while True:
        try:
            await _take(pool, name, me)
            log.info("leading", extra={"lease": name})
            await _work_and_beat(pool, name, me, work)
            log.warning("lease lost", extra={"lease": name})
        except* AWAY as away:  # the work may well be a group of tasks
            log.warning("lease: PostgreSQL is away: %s", away, extra={"lease": name})
        await asyncio.sleep(BEAT_EVERY)


async def _take(pool: Pool, name: str, me: UUID) -> None:
    """Waits until the lease is free or its holder has been silent for too long."""
    clock = asyncio.get_running_loop().time
    seen, seen_at = None, clock()
    while True:
        row = await pool.fetchrow(LOOK, name)
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
        with contextlib.suppress(*AWAY):
            await asyncio.wait_for(pool.execute(LEAVE, name, me), timeout=2)


async def _still_mine(pool: Pool, name: str, me: UUID) -> bool:
    """Beats once. A server that is away for less than the lease lasts costs nothing."""
    clock = asyncio.get_running_loop().time
    deadline = clock() + EXPIRES_AFTER
    while True:
        try:
            async with asyncio.timeout_at(deadline):
                return await pool.fetchval(BEAT, name, me) is not None
        except AWAY:
            if clock() >= deadline:
                return False
            await asyncio.sleep(0.1)
