"""Measure how long mediabus takes to recover from a fault."""

import asyncio
import contextlib
import time
from typing import Final

from chaos.load import Load, Uncertain
from mediabus.runtime.postgres.database import AWAY, Pool

RECOVERS_WITHIN: Final = 120.0
"""Seconds from the end of a fault until its recovery counts as failed."""
IS_STORED: Final = "SELECT true FROM events WHERE correlation_id = $1"


async def recovered(load: Load, pool: Pool) -> tuple[float | None, float | None]:
    """Return the seconds until an operation gets a reply, and until its event is stored.

    None if that takes longer than RECOVERS_WITHIN.
    """
    ended = time.monotonic()
    answering: float | None = None
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(RECOVERS_WITHIN):
            operation = await _retry_operation(load)
            answering = time.monotonic() - ended
            await _wait_until_stored(pool, operation)
            return answering, time.monotonic() - ended
    return answering, None


def shown(seconds: float | None) -> str:
    """Format a time; None means that the recovery failed."""
    return f"more than {RECOVERS_WITHIN:.0f} s" if seconds is None else f"{seconds:.2f} s"


async def _retry_operation(load: Load) -> str:
    while True:
        try:
            return (await load.create())[0]
        except Uncertain:
            await asyncio.sleep(0.05)


async def _wait_until_stored(pool: Pool, operation: str) -> None:
    while True:
        with contextlib.suppress(*AWAY):
            if await pool.fetchval(IS_STORED, operation, timeout=5):
                return
        await asyncio.sleep(0.05)
