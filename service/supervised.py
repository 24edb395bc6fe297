"""Restart a task after an exception, so that it does not end the other tasks of its process."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Final

log: Final = logging.getLogger("mediabus.service")

FIRST_PAUSE: Final = 1.0
MAX_PAUSE: Final = 60.0
RESET_AFTER: Final = 60.0
"""Seconds of work after which an exception counts as a new one."""


class CancelledByNobody(Exception):
    """A library raised CancelledError although the task was not cancelled."""


async def supervised(name: str, work: Callable[[], Awaitable[None]]) -> None:
    """Run ``work`` until it returns or is cancelled.

    After an exception, restart it with an exponential back-off of 1 to 60 seconds. An exception
    that repeats is logged once.
    """
    clock = asyncio.get_running_loop().time
    pause, reported = FIRST_PAUSE, ""
    while True:
        started = clock()
        try:
            return await _uncancelled(work)
        except Exception as error:
            if clock() - started > RESET_AFTER:
                pause, reported = FIRST_PAUSE, ""
            if repr(error) != reported:
                log.exception("work failed, will retry", extra={"work": name})
                reported = repr(error)
        await asyncio.sleep(pause)
        pause = min(2 * pause, MAX_PAUSE)


async def _uncancelled(work: Callable[[], Awaitable[None]]) -> None:
    try:
        await work()
    except asyncio.CancelledError as error:
        if (task := asyncio.current_task()) and task.cancelling():
            raise
        raise CancelledByNobody from error
