"""Send the events that happen to an open page."""

import asyncio
import contextlib
from typing import Final

from aiohttp import web

from mediabus.runtime.process.http_routes import TooManyStreams
from mediabus.web import sse
from mediabus.web.context import Web
from mediabus.web.feed import NATS_ERRORS, PING_EVERY, Feed, TooFarBehind
from mediabus.web.filters import Filters, InvalidFilter

CATCH_UP_WITHIN: Final = 5.0
"""Seconds to wait for an event that the page already has: another process was ahead of this one."""

CHECK_STORED_EVERY: Final = 2.0
"""Seconds."""

RELOAD: Final = sse.message("reload", "")
HISTORY_BEHIND: Final = sse.message(
    "away",
    "The history is far behind: events wait to be stored. This page shows them by itself.",
)


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
    if not await _is_there(feed, after):
        await response.write(RELOAD)
        return
    await response.write(context.outages.frame)
    try:
        while after != feed.position:
            until = feed.position
            for frame in await _missed(feed, filters, after, until):
                await response.write(frame)
            after = until
    except TooFarBehind:
        await _until_stored(feed, response)
        await response.write(RELOAD)
        return
    with feed.sending(filters, transport):
        while not transport.is_closing():  # noqa: ASYNC110 - a transport has no event for that
            await asyncio.sleep(PING_EVERY)


async def _missed(feed: Feed, filters: Filters, after: int, until: int) -> list[bytes]:
    try:
        return await feed.missed(filters, after, until)
    except NATS_ERRORS as error:
        raise ConnectionResetError("NATS is away: the page resumes later") from error


async def _is_there(feed: Feed, after: int) -> bool:
    """Return whether the stream has what a page has. Otherwise NATS lost its stream."""
    try:
        async with asyncio.timeout(CATCH_UP_WITHIN):
            await feed.reached(after)
    except TimeoutError:
        return False
    return True


async def _until_stored(feed: Feed, response: web.StreamResponse) -> None:
    """Wait until the history has so much that a page that loads again can catch up."""
    note = HISTORY_BEHIND
    while not await feed.is_mostly_stored():
        await response.write(note)
        note = sse.COMMENT
        await asyncio.sleep(CHECK_STORED_EVERY)


def _position(request: web.BaseRequest) -> int:
    text = request.headers.get("Last-Event-ID") or request.query.get("position", "")
    if not text.isascii() or not text.isdigit() or len(text) > 18:
        raise web.HTTPBadRequest(text="position must be the number of an event\n")
    return int(text)
