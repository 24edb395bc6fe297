"""Send the events that happen to an open page."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Final

from aiohttp import web

from mediabus.runtime.process.http_routes import TooManyStreams
from mediabus.web import sse
from mediabus.web.context import Web
from mediabus.web.feed import KEPT, NATS_ERRORS, PING_EVERY, Feed
from mediabus.web.filters import Filters, InvalidFilter

CATCH_UP_WITHIN: Final = 5.0
"""Seconds to wait for an event that the page already has: another process was ahead of this one."""


async def live(context: Web, request: web.BaseRequest) -> web.StreamResponse:
    """Send the events behind ``Last-Event-ID``, and then each one as it happens."""
    try:
        filters = Filters.of(request.query)
    except InvalidFilter as error:
        raise web.HTTPBadRequest(text=f"{error}\n") from error
    after = _position(request)
    try:
        with context.routes.streaming(request):
            response = await sse.open_stream(request)
            with contextlib.suppress(ConnectionError):
                await _send(context, request, response, filters, after)
            return response
    except TooManyStreams:
        raise web.HTTPServiceUnavailable(text="Too many pages are open.\n") from None


async def _send(
    context: Web,
    request: web.BaseRequest,
    response: web.StreamResponse,
    filters: Filters,
    after: int,
) -> None:
    feed, transport = context.feed, request.transport
    if transport is None:
        return
    if not await _is_reachable(feed, after):
        await response.write(sse.message("reload", ""))
        return
    await response.write(context.outages.frame)
    while after != feed.position:
        until = feed.position
        async for frame in _missed(feed, filters, after, until):
            await response.write(frame)
        after = until
    with feed.sending(filters, transport):
        while not transport.is_closing():  # noqa: ASYNC110 - a transport has no event for that
            await asyncio.sleep(PING_EVERY)


async def _missed(feed: Feed, filters: Filters, after: int, until: int) -> AsyncIterator[bytes]:
    try:
        async for frame in feed.missed(filters, after, until):
            yield frame
    except NATS_ERRORS as error:
        raise ConnectionResetError("NATS is away: the page resumes later") from error


async def _is_reachable(feed: Feed, after: int) -> bool:
    """Return whether a page can catch up. Otherwise it missed too much, or NATS lost its stream."""
    try:
        async with asyncio.timeout(CATCH_UP_WITHIN):
            await feed.reached(after)
    except TimeoutError:
        return False
    return feed.position - after <= KEPT


def _position(request: web.BaseRequest) -> int:
    text = request.headers.get("Last-Event-ID") or request.query.get("position", "")
    if not text.isascii() or not text.isdigit() or len(text) > 18:
        raise web.HTTPBadRequest(text="position must be the number of an event\n")
    return int(text)
