"""A receiver of webhooks that answers as a test wants."""

import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any

from aiohttp import web

from tests.support.ports import free_port


class Receiver:
    """Keeps the bodies that it received. ``status`` is what it answers."""

    def __init__(self) -> None:
        self.status = 200
        self.bodies: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        port = free_port()
        self.url = f"http://127.0.0.1:{port}/hooks"
        self.port = port

    @property
    def kinds(self) -> list[str]:
        return [body["eventType"] for body in self.bodies]

    async def receive(self, request: web.Request) -> web.Response:
        self.bodies.append(json.loads(await request.read()))
        self.headers.append(dict(request.headers))
        return web.Response(status=self.status)


@contextlib.asynccontextmanager
async def receiver() -> AsyncIterator[Receiver]:
    """Run a receiver on loopback."""
    running = Receiver()
    application = web.Application()
    application.router.add_route("*", "/hooks", running.receive)
    runner = web.AppRunner(application, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", running.port).start()
        yield running
    finally:
        await runner.cleanup()
