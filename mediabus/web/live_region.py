"""A part of a page that updates by itself, rendered once for all open pages."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Final, NamedTuple

from aiohttp import web
from nats.errors import Error as NatsError
from nats.js.errors import APIError

from mediabus.runtime.process.http_routes import TooManyStreams
from mediabus.web.context import VISITOR, Web
from mediabus.web.page import Page
from mediabus.web.sse import COMMENT, message, open_stream
from mediabus.web.templating import rendered

log: Final = logging.getLogger("mediabus.web")

CONNECTION_EVERY: Final = 1.0
"""Seconds between two looks whether NATS is connected."""

KEEP_ALIVE_EVERY: Final = 15.0
"""Seconds after which an open page receives a comment if nothing has changed."""

READ_WITHIN: Final = 20.0
"""Seconds. A reading that takes longer is given up and started again."""


class Region(NamedTuple):
    """What a region shows, and when it may have changed."""

    page: str
    """The id of its page. The address of its stream is this and ``/live``."""

    template: str
    read: Callable[[], Awaitable[dict[str, Any]]]
    """Returns the values for the template."""

    subjects: tuple[str, ...] = ()
    """A message on one of these NATS subjects may have changed it."""

    at_most_every: float = 1.0
    """Seconds between two renderings."""

    at_least_every: float = 15.0
    """Seconds after which it is read again although no message came."""


class LiveRegion:
    """Renders a region while a page is open, and sends each version to all open pages."""

    def __init__(self, context: Web, region: Region) -> None:
        self._context = context
        self._bus = context.bus
        self._region = region
        self._versions = {True: "", False: ""}
        self._changed = asyncio.Condition()
        self._readers = 0
        self._task: asyncio.Task[None] | None = None

    def entry(self) -> Page:
        """Return the stream that the script of the page reads."""
        return Page(f"{self._region.page}/live", self.stream, is_data=True)

    async def stream(self, context: Web, request: web.BaseRequest) -> web.StreamResponse:
        """Send the region as a server-sent event whenever it changes."""
        try:
            with context.routes.streaming(request):
                response = await open_stream(request)
                with contextlib.suppress(ConnectionError):
                    async for version in self.following(can_change=request[VISITOR].can_change):
                        await response.write(message("region", version) if version else COMMENT)
                return response
        except TooManyStreams:
            raise web.HTTPServiceUnavailable(text="Too many pages are open.\n") from None

    async def following(self, *, can_change: bool) -> AsyncIterator[str]:
        """Yield the region as HTML now and whenever it changes; "" after a while without change."""
        async with self._reading():
            sent = ""
            while True:
                version = self._versions[can_change]
                if version != sent:
                    sent = version
                    yield version
                    continue
                if not await self._next_version(can_change, sent):
                    yield ""

    async def _next_version(self, can_change: bool, sent: str) -> bool:
        try:
            async with asyncio.timeout(KEEP_ALIVE_EVERY), self._changed:
                await self._changed.wait_for(lambda: self._versions[can_change] != sent)
        except TimeoutError:
            return False
        return True

    @contextlib.asynccontextmanager
    async def _reading(self) -> AsyncIterator[None]:
        self._readers += 1
        if self._task is None or self._task.done():
            self._versions = {True: "", False: ""}  # those of the last reader are old
            self._task = asyncio.create_task(self._refresh(), name=self._region.page)
        try:
            yield
        finally:
            self._readers -= 1
            if not self._readers and self._task:
                self._task.cancel()
                self._task = None

    async def _refresh(self) -> None:
        while True:
            try:
                await self._until_interrupted()
            except (NatsError, APIError, TimeoutError) as error:
                extra = {"page": self._region.page, "error": str(error)}
                log.info("following a page was interrupted", extra=extra)
            await asyncio.sleep(self._region.at_most_every)

    async def _until_interrupted(self) -> None:
        woken = asyncio.Event()
        async with contextlib.AsyncExitStack() as stack:
            for subject in self._region.subjects:
                receiving = self._bus.nc.receiving(subject, lambda _: woken.set())
                await stack.enter_async_context(receiving)
            while True:
                woken.clear()
                connection = self._connection
                async with asyncio.timeout(READ_WITHIN):
                    await self._update()
                await asyncio.sleep(self._region.at_most_every)
                await self._next_reason(woken, connection)

    async def _next_reason(self, woken: asyncio.Event, connection: tuple[bool, int]) -> None:
        """Wait for a message, a change of the connection to NATS, or the end of the time."""
        waited = 0.0
        while waited < self._region.at_least_every and connection == self._connection:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(woken.wait(), CONNECTION_EVERY)
                return
            waited += CONNECTION_EVERY

    @property
    def _connection(self) -> tuple[bool, int]:
        return self._bus.is_connected, self._bus.connection

    async def _update(self) -> None:
        values = await self._region.read()
        versions = {can_change: self._rendered(values, can_change) for can_change in (True, False)}
        if versions != self._versions:
            async with self._changed:
                self._versions = versions
                self._changed.notify_all()

    def _rendered(self, values: dict[str, Any], can_change: bool) -> str:
        return rendered(
            self._context.templates,
            self._region.template,
            base=self._context.base,
            page=self._region.page,
            can_change=can_change,
            **values,
        )
