"""The list of the page Now, rendered once for all open pages and sent whenever it changes."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from typing import Any, Final

from aiohttp import web
from nats.errors import Error as NatsError
from nats.js.errors import APIError

from mediabus.runtime.process.http_routes import TooManyStreams
from mediabus.schemas.subjects import STATUS_SUBJECT, filter_for
from mediabus.web.context import VISITOR, Web
from mediabus.web.page import Page
from mediabus.web.pages.now import under_way
from mediabus.web.sse import message, open_stream
from mediabus.web.templating import rendered

log: Final = logging.getLogger("mediabus.web")

AT_MOST_EVERY: Final = 1.0
"""Seconds between two renderings."""

AT_LEAST_EVERY: Final = 15.0
"""Seconds after which the list is read again although nothing woke it."""


class LiveList:
    """Renders the list while a page is open, and sends each version to all open pages."""

    def __init__(self, context: Web) -> None:
        self._context = context
        self._bus = context.bus
        self._versions = {True: "", False: ""}
        self._changed = asyncio.Condition()
        self._readers = 0
        self._task: asyncio.Task[None] | None = None

    def pages(self) -> tuple[Page, ...]:
        """Return the stream that the script of the page Now reads."""
        return (Page("now/live", self.stream, is_data=True),)

    async def stream(self, context: Web, request: web.BaseRequest) -> web.StreamResponse:
        """Send the list as a server-sent event whenever it changes."""
        try:
            with context.routes.streaming(request):
                response = await open_stream(request)
                with contextlib.suppress(ConnectionError):
                    async for version in self.following(can_change=request[VISITOR].can_change):
                        await response.write(message("now", version) if version else KEEP_ALIVE)
                return response
        except TooManyStreams:
            raise web.HTTPServiceUnavailable(text="Too many pages are open.\n") from None

    async def following(self, *, can_change: bool) -> AsyncIterator[str]:
        """Yield the list as HTML now and whenever it changes; "" after a while without change."""
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
            async with asyncio.timeout(AT_LEAST_EVERY), self._changed:
                await self._changed.wait_for(lambda: self._versions[can_change] != sent)
        except TimeoutError:
            return False
        return True

    @contextlib.asynccontextmanager
    async def _reading(self) -> AsyncIterator[None]:
        self._readers += 1
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._refresh(), name="now")
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
                log.info("following the downloads was interrupted", extra={"error": str(error)})
            await asyncio.sleep(AT_MOST_EVERY)

    async def _until_interrupted(self) -> None:
        woken = asyncio.Event()
        events, statuses = filter_for(category="downloads"), f"{STATUS_SUBJECT}>"
        async with (
            self._bus.nc.receiving(events, lambda _: woken.set()),
            self._bus.nc.receiving(statuses, lambda _: woken.set()),
        ):
            while True:
                woken.clear()
                await self._update()
                await asyncio.sleep(AT_MOST_EVERY)
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(woken.wait(), AT_LEAST_EVERY)

    async def _update(self) -> None:
        values = await under_way(self._bus)
        versions = {can_change: self._rendered(values, can_change) for can_change in (True, False)}
        if versions != self._versions:
            async with self._changed:
                self._versions = versions
                self._changed.notify_all()

    def _rendered(self, values: dict[str, Any], can_change: bool) -> str:
        return rendered(
            self._context.templates,
            "now_list.html",
            base=self._context.base,
            page="now",
            can_change=can_change,
            **values,
        )


KEEP_ALIVE: Final = b": \n\n"
"""A comment, so that a proxy keeps the connection open."""
