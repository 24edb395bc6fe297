"""A small HTTP server that idle or slow clients cannot block."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Final

from aiohttp import web
from aiohttp.web_protocol import RequestHandler

from mediabus.runtime.process.http_routes import Lane, Routes, limited

MAX_CONNECTIONS: Final = 256
MAX_LIFETIME: Final = 15.0
"""Seconds after which an idle or slow connection is closed."""
KEEP_ALIVE: Final = 5.0

Page = Callable[[web.BaseRequest], Awaitable[web.Response]]


class LimitedServer(web.Server):
    """Serves pages by path, and the routes of the parts.

    Connections that wait, send a request or read a page share one limit. Above it, the oldest one
    is closed. A connection leaves that limit while a route of a part answers its request, so slow
    requests of parts cannot delay ``/livez``, and a thousand idle connections cannot end a request
    that a part answers.
    """

    def __init__(self, pages: Mapping[str, Page], routes: Routes) -> None:
        super().__init__(
            self._answer,
            access_log=None,
            keepalive_timeout=KEEP_ALIVE,
            lingering_time=1.0,
        )
        self._pages = pages
        self._routes = routes
        self._idle = Lane(limited(MAX_CONNECTIONS, share=8), MAX_LIFETIME)

    def connection_made(self, handler: RequestHandler, transport: asyncio.Transport) -> None:
        """Accept a connection. Close the oldest one if there are too many."""
        super().connection_made(handler, transport)
        self._idle.add(handler, transport)

    def connection_lost(self, handler: RequestHandler, exc: BaseException | None = None) -> None:
        """Remove a closed connection."""
        self._idle.discard(handler)
        super().connection_lost(handler, exc)

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        page = self._pages.get(request.path)
        if page is not None:
            if request.method not in {"GET", "HEAD"}:
                return web.Response(status=405, headers={"Allow": "GET, HEAD"})
            return await page(request)
        handler = self._routes.find(request.path)
        if handler is not None:
            return await self._routes.answer(handler, request, self._idle)
        return web.Response(status=404, text=f"not found, try {' '.join(self._pages)}\n")
