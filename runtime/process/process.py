"""Run a process until it fails or a signal ends it."""

import asyncio
import gc
import logging
import os
import signal
from collections.abc import Callable, Coroutine
from typing import Any, Final

import uvloop

log: Final = logging.getLogger("mediabus.process")

SHUTDOWN_TIMEOUT: Final = 10.0
"""Seconds from SIGTERM until the process kills itself. Docker and systemd wait longer."""

GC_THRESHOLD: Final = 20_000
"""Allocations between two garbage collections. A batch of a thousand events allocates about ten
thousand objects without any cycle; Python's default of 700 would collect all the time."""


def run(
    main: Callable[[], Coroutine[Any, Any, None]], *, on_hangup: Callable[[], None] | None = None
) -> None:
    """Run ``main`` on uvloop until it ends or SIGTERM or SIGINT cancels it.

    SIGHUP calls ``on_hangup``, but cancels ``main`` if the terminal was closed.
    """
    gc.set_threshold(GC_THRESHOLD)
    uvloop.run(_until_signal(main, on_hangup))


async def _until_signal(
    main: Callable[[], Coroutine[Any, Any, None]], on_hangup: Callable[[], None] | None
) -> None:
    loop = asyncio.get_running_loop()
    task = asyncio.create_task(main(), name="main")
    shutdown = _Shutdown(task)
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, shutdown.start, signal.Signals(number).name)
    if on_hangup is not None:
        has_terminal = signal.getsignal(signal.SIGHUP) != signal.SIG_IGN and _has_terminal()
        hangup = _Hangup(shutdown, on_hangup, has_terminal=has_terminal)
        loop.add_signal_handler(signal.SIGHUP, hangup.handle)
    try:
        await task
    except asyncio.CancelledError:
        pass
    except Exception as error:
        if not shutdown.has_started:
            raise
        # The process was asked to end, so an error on the way out is only logged.
        log.warning("an exit step failed", extra={"reason": repr(error)})


class _Shutdown:
    """Cancels the main task once: a second signal must not interrupt its exit steps."""

    def __init__(self, task: asyncio.Task[None]) -> None:
        self._task = task
        self.has_started = False

    def start(self, name: str) -> None:
        if self.has_started:
            return
        self.has_started = True
        log.info("shutting down", extra={"signal": name})
        self._task.cancel()
        asyncio.get_running_loop().call_later(SHUTDOWN_TIMEOUT, _kill)


class _Hangup:
    """Handles SIGHUP, which has two meanings: the terminal was closed, or reload the settings.

    With `nohup`, which ignores the signal, a closed terminal does not end the process.
    """

    def __init__(
        self, shutdown: _Shutdown, reload: Callable[[], None], *, has_terminal: bool
    ) -> None:
        self._shutdown = shutdown
        self._reload = reload
        self._has_terminal = has_terminal

    def handle(self) -> None:
        if self._has_terminal and not _has_terminal():
            self._shutdown.start("SIGHUP")
        else:
            self._reload()


def _has_terminal() -> bool:
    """Return whether this process has a terminal that is open."""
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY))
    except OSError:
        return False
    return True


def _kill() -> None:
    log.error("shutdown timed out", extra={"seconds": SHUTDOWN_TIMEOUT})
    signal.raise_signal(signal.SIGKILL)
    os._exit(128 + signal.SIGKILL)  # process 1 of a container cannot kill itself
