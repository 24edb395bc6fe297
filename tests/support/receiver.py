"""An HTTP server that receives webhooks, and answers as the test tells it to."""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import msgspec
from aiohttp import web

Answer = Callable[[web.Request, bytes], Awaitable[web.StreamResponse]]


class Received(msgspec.Struct, frozen=True):
    """One request."""

    headers: dict[str, str]
    body: bytes

    @property
    def webhook_id(self) -> str:
        return self.headers["webhook-id"]

    @property
    def events(self) -> list[dict[str, Any]]:
        """The CloudEvents in the body."""
        decoded = msgspec.json.decode(self.body)
        return decoded if isinstance(decoded, list) else [decoded]


class Receiver:
    """Notes each request. ``answers`` are used one by one; after them, it accepts."""

    def __init__(self) -> None:
        self.url = ""
        self.received: list[Received] = []
        self.accepted: list[Received] = []
        self.answers: list[Answer] = []
        self.always: Answer | None = None

    @property
    def jobs(self) -> list[str]:
        """The jobs of all events that were accepted, in order."""
        events = [event for one in self.accepted for event in one.events]
        return [event["data"]["job_name"] for event in events]

    async def handle(self, request: web.Request) -> web.StreamResponse:
        one = Received(dict(request.headers), await request.read())
        self.received.append(one)
        answer = self.always or (self.answers.pop(0) if self.answers else None)
        if answer is not None:
            response = await answer(request, one.body)
            if 200 <= response.status < 300:
                self.accepted.append(one)
            return response
        self.accepted.append(one)
        return web.Response(status=204)


def status(code: int, headers: dict[str, str] | None = None, text: str = "") -> Answer:
    """Answer with a status."""

    async def answer(_request: web.Request, _body: bytes) -> web.Response:
        return web.Response(status=code, headers=headers, text=text)

    return answer


async def closes(request: web.Request, _body: bytes) -> web.StreamResponse:
    """Close the connection without an answer."""
    assert request.transport is not None
    request.transport.abort()
    return web.Response(status=500)


def slow(seconds: float) -> Answer:
    """Answer late."""

    async def answer(_request: web.Request, _body: bytes) -> web.Response:
        await asyncio.sleep(seconds)
        return web.Response(status=500)

    return answer


@contextlib.asynccontextmanager
async def receiving(*, port: int = 0, tls: ssl.SSLContext | None = None) -> AsyncIterator[Receiver]:
    """Run a receiver on loopback."""
    receiver = Receiver()
    application = web.Application(client_max_size=64 * 1024 * 1024)
    application.router.add_route("*", "/{path:.*}", receiver.handle)
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", port, ssl_context=tls)
    await site.start()
    assert site._server is not None
    bound = site._server.sockets[0].getsockname()[1]  # type: ignore[attr-defined]
    receiver.url = f"{'https' if tls else 'http'}://127.0.0.1:{bound}/hook"
    try:
        yield receiver
    finally:
        await runner.cleanup()
