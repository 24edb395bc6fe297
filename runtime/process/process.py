"""How a process lives: it runs its parts until one fails or a signal asks it to leave."""

import asyncio
import contextlib
import gc
import logging
import signal
from collections.abc import Callable, Coroutine
from typing import Any, Final

import uvloop

log: Final = logging.getLogger("mediabus.process")

LEAVE_WITHIN: Final = 10.0
"""Seconds from SIGTERM to being gone; Docker's and systemd's own patience is longer."""

COLLECT_AFTER: Final = 20_000
"""Objects made and not yet gone, after which Python looks for cycles. A batch of a thousand events
is some ten thousand, without any cycle: at Python's own 700 it looks for them all the time."""


def run(main: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Runs ``main`` on uvloop until it ends, or SIGTERM or SIGINT cancels it."""
    gc.set_threshold(COLLECT_AFTER)
    uvloop.run(_until_signal(main))


async def _until_signal(main: Callable[[], Coroutine[Any, Any, None]]) -> None:
    loop = asyncio.get_running_loop()
    task = asyncio.create_task(main(), name="main")
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, _leave, task, signal.Signals(number).name)
    with contextlib.suppress(asyncio.CancelledError):
        await task


def _leave(task: asyncio.Task[None], name: str) -> None:
    log.info("leaving", extra={"signal": name})
    task.cancel()
    asyncio.get_running_loop().call_later(LEAVE_WITHIN, _give_up)


def _give_up() -> None:
    log.error("did not leave in time", extra={"seconds": LEAVE_WITHIN})
    signal.raise_signal(signal.SIGKILL)
