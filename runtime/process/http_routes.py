"""Routes that the parts of a process add to its HTTP server, and the limits of their requests."""

import asyncio
import contextlib
import resource
from collections.abc import Awaitable, Callable, Iterable, Iterator
from typing import Final, NamedTuple

from aiohttp import web
from aiohttp.web_protocol import RequestHandler

MAX_REQUESTS: Final = 128
"""Requests that handlers of parts answer at once."""
MAX_REQUEST_SECONDS: Final = 60.0
"""Seconds after which such a request is aborted, however slow its client is."""
MAX_STREAMS: Final = 1024
"""Responses that stay open."""

Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


class TooManyStreams(Exception):
    """As many responses are open as this process may keep open."""


class _Connection(NamedTuple):
    transport: asyncio.Transport
    deadline: asyncio.TimerHandle


class Lane:
    """Open connections that share a limit. Above it, the oldest connection is aborted.

    Each connection is aborted after ``seconds``.
    """

    def __init__(self, limit: int, seconds: float) -> None:
        self._limit = limit
        self._seconds = seconds
        self._open: dict[RequestHandler, _Connection] = {}

    def add(self, handler: RequestHandler, transport: asyncio.Transport) -> None:
        """Add a connection. Abort the oldest one if there are too many."""
        deadline = asyncio.get_running_loop().call_later(self._seconds, transport.abort)
        self._open[handler] = _Connection(transport, deadline)
        if len(self._open) > self._limit:
            self._remove(next(iter(self._open))).abort()

    def discard(self, handler: RequestHandler) -> asyncio.Transport | None:
        """Remove a connection if it is here. Return its transport."""
        return self._remove(handler) if handler in self._open else None

    def _remove(self, handler: RequestHandler) -> asyncio.Transport:
        connection = self._open.pop(handler)
        connection.deadline.cancel()
        return connection.transport


class Routes:
    """The routes of the parts. The server has routes of its own, which no part can replace.

    ``expected`` are paths that a part will handle once it has started. Until then, the answer is
    503, so that a sender tries again.
    """

    def __init__(self, expected: Iterable[str] = ()) -> None:
        self._expected = tuple(expected)
        self._handlers: dict[str, Handler] = {}
        self._requests = Lane(limited(MAX_REQUESTS, share=8), MAX_REQUEST_SECONDS)
        self._most_streams = limited(MAX_STREAMS, share=4)
        self._streams = 0

    @property
    def missing(self) -> list[str]:
        """The expected paths that no part handles yet."""
        return [path for path in self._expected if path not in self._handlers]

    @contextlib.contextmanager
    def handling(self, path: str, handler: Handler) -> Iterator[None]:
        """Route requests to a handler while the context is open.

        A path that ends in ``/`` is a prefix, and the longest prefix wins. Any other path is exact.
        The handler receives every method.
        """
        if path in self._handlers:
            raise ValueError(f"two parts handle {path}")
        self._handlers[path] = handler
        try:
            yield
        finally:
            del self._handlers[path]

    def find(self, path: str) -> Handler | None:
        """Return the handler of a path."""
        if (exact := self._handlers.get(path)) is not None:
            return exact
        longest = _longest_prefix(self._handlers, path)
        coming = path in self._expected or _longest_prefix(self._expected, path)
        if coming and len(longest or "") <= len("/"):
            return _starting
        return None if longest is None else self._handlers[longest]

    async def answer(
        self, handler: Handler, request: web.BaseRequest, idle: Lane
    ) -> web.StreamResponse:
        """Call a handler under the limits of requests.

        The connection is in ``idle`` before and afterwards.
        """
        protocol = request.protocol
        if (transport := idle.discard(protocol)) is None:
            raise ConnectionResetError("the connection was aborted")
        self._requests.add(protocol, transport)
        try:
            return await handler(request)
        finally:
            self._requests.discard(protocol)
            if not transport.is_closing():
                idle.add(protocol, transport)

    @contextlib.contextmanager
    def streaming(self, request: web.BaseRequest) -> Iterator[None]:
        """Let a handler respond without a time limit while the context is open.

        Raises:
            TooManyStreams: if too many responses are open.
        """
        if self._streams >= self._most_streams:
            raise TooManyStreams
        self._streams += 1
        self._requests.discard(request.protocol)
        try:
            yield
        finally:
            self._streams -= 1


def _longest_prefix(prefixes: Iterable[str], path: str) -> str | None:
    fitting = (key for key in prefixes if key.endswith("/") and path.startswith(key))
    return max(fitting, key=len, default=None)


async def _starting(_: web.BaseRequest) -> web.StreamResponse:
    return web.Response(status=503, text="starting, try again\n", headers={"Retry-After": "10"})


def limited(most: int, *, share: int) -> int:
    """Return a number of connections: at most one in ``share`` of the file descriptors."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return most if soft < 0 else max(4, min(most, soft // share))
