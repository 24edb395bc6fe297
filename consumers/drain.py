"""Stop a consumer: take no more messages, and finish those in hand."""

import asyncio
import contextlib
import logging
import signal
import threading
from collections.abc import Callable, Iterator
from typing import Final

from nats.aio.msg import Msg

from mediabus.runtime.nats.pull import Pull

log: Final = logging.getLogger("mediabus.consumer")

DRAIN_TIMEOUT: Final = 8.0
"""Seconds from SIGTERM until handlers that still run are cancelled. Docker waits ten."""


class Drain:
    """Whether a consumer stops, for all tasks that take messages for it."""

    def __init__(self) -> None:
        self._stopped = asyncio.Event()
        self._waiting: set[asyncio.Task[object]] = set()

    @property
    def is_stopping(self) -> bool:
        """Whether the consumer takes no more messages."""
        return self._stopped.is_set()

    def of(self, pull: Pull) -> "Source":
        """Return the messages of ``pull`` until this stops."""
        return Source(self, pull)

    def stop(self) -> None:
        """Take no more messages. Ends the waits for one; handlers go on."""
        self._stopped.set()
        for task in self._waiting:
            task.cancel()

    async def pause(self, seconds: float) -> bool:
        """Wait, and return whether the consumer goes on afterwards."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._stopped.wait(), timeout=seconds)
        return not self.is_stopping

    async def messages(self, pull: Pull, most: int) -> list[Msg]:
        """Wait for messages. Returns an empty list once this has stopped."""
        task = asyncio.current_task()
        if task is None or self._stopped.is_set():
            return []
        self._waiting.add(task)
        try:
            return await pull.messages(most)
        except asyncio.CancelledError:
            if self._stopped.is_set() and task.uncancel() == 0:
                return []
            raise
        finally:
            self._waiting.discard(task)


class Source:
    """The messages of one pull consumer, until its drain stops."""

    def __init__(self, drain: Drain, pull: Pull) -> None:
        self._drain = drain
        self._pull = pull

    async def messages(self, most: int) -> list[Msg]:
        """Wait for at least one message. Returns an empty list if there are no more."""
        return await self._drain.messages(self._pull, most)


_stops: Final[set[Callable[[], None]]] = set()
"""What SIGTERM calls. A loop has one handler for a signal, and a program may run many consumers."""


@contextlib.contextmanager
def stopping_on_sigterm(drain: Drain) -> Iterator[None]:
    """Let SIGTERM drain the consumer of the current task.

    A program that handles SIGTERM itself keeps its handler, and cancels the task instead.
    """
    loop, task = asyncio.get_running_loop(), asyncio.current_task()

    def stop() -> None:
        log.info("draining", extra={"seconds": DRAIN_TIMEOUT})
        drain.stop()
        if task is not None:
            timers.append(loop.call_later(DRAIN_TIMEOUT, task.cancel))

    timers: list[asyncio.TimerHandle] = []
    is_main = threading.current_thread() is threading.main_thread()
    is_free = bool(_stops) or (is_main and signal.getsignal(signal.SIGTERM) == signal.SIG_DFL)
    if not is_free:
        yield
        return
    if not _stops:
        loop.add_signal_handler(signal.SIGTERM, _stop_all)
    _stops.add(stop)
    try:
        yield
    finally:
        _stops.discard(stop)
        if not _stops:
            loop.remove_signal_handler(signal.SIGTERM)
        for timer in timers:
            timer.cancel()


def _stop_all() -> None:
    for stop in tuple(_stops):
        stop()
