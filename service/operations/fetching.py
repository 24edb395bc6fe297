"""Fetch URLs and parse files in a separate thread, so that no other request waits."""

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Callable
from typing import Final

from mediabus.runtime.api.serve import OperationError, problem
from mediabus.runtime.url_policy import Allowed
from mediabus.service.clients.port import Source
from mediabus.service.clients.sources import SourceUnavailable, fetch

MAX_FETCHES: Final = 32
"""URLs fetched at the same time, each with up to 10 MB in memory."""
FETCH_TIMEOUT: Final = 30.0
"""Seconds for one URL, with its redirects."""
WAIT_TIMEOUT: Final = FETCH_TIMEOUT + 5.0
"""Seconds after which a request stops waiting, even if the thread is too busy to time out."""
CLOSE_WITHIN: Final = 1.5
"""Seconds in which cancelled fetches close their connections when the process ends."""


class Fetches:
    """Fetches URLs on a separate event loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._running = 0

    async def fetch(self, url: str, allowed: Allowed) -> Source:
        """Fetch a URL, as ``sources.fetch`` does.

        Raises:
            OperationError: 503 ``busy``, too many URLs are being fetched.
            SourceUnavailable: the URL did not answer in time, or with an error.
        """
        if self._running >= MAX_FETCHES:
            message = f"{self._running} URLs are being fetched, which is the limit: try again later"
            raise OperationError(problem(503, "busy", message))
        self._running += 1
        try:
            fetching = fetch(url, allowed, timeout=FETCH_TIMEOUT)
            answer = asyncio.run_coroutine_threadsafe(fetching, self._loop)
            return await asyncio.wait_for(asyncio.wrap_future(answer), WAIT_TIMEOUT)
        except TimeoutError as error:
            raise SourceUnavailable(f"the URL did not answer within {WAIT_TIMEOUT:g} s") from error
        finally:
            self._running -= 1

    async def run(
        self, function: Callable[[str, Source], Source], field: str, source: Source
    ) -> Source:
        """Call ``function(field, source)`` in the thread: a torrent file may have megabytes."""

        async def call() -> Source:
            return function(field, source)

        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(call(), self._loop))


@contextlib.asynccontextmanager
async def open_fetches() -> AsyncIterator[Fetches]:
    """Start the thread; cancel its fetches and stop it on exit."""
    loop = asyncio.new_event_loop()
    # A daemon thread: a DNS lookup that hangs must not block the exit of the process.
    thread = threading.Thread(target=_run, args=(loop,), name="fetches", daemon=True)
    thread.start()
    try:
        yield Fetches(loop)
    finally:
        loop.call_soon_threadsafe(loop.stop)
        await asyncio.to_thread(thread.join, CLOSE_WITHIN + 0.5)


def _run(loop: asyncio.AbstractEventLoop) -> None:
    asyncio.set_event_loop(loop)
    loop.run_forever()
    tasks = asyncio.all_tasks(loop)
    for task in tasks:
        task.cancel()
    if tasks:
        loop.run_until_complete(asyncio.wait(tasks, timeout=CLOSE_WITHIN))
    loop.close()
