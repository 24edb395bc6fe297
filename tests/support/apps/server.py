"""An application's HTTP server. Its state outlives restarts, as a database does."""

import abc
import contextlib
import secrets
from collections.abc import AsyncIterator
from typing import Any, Self

from aiohttp import web

from tests.support.apps.clock import Clock
from tests.support.ports import free_port

HOST = "127.0.0.1"


class AppServer(abc.ABC):
    """Serves on the same port after each start, and refuses requests without the API key."""

    app_name: str
    version: str

    def __init__(self, *, instance_name: str | None = None) -> None:
        self.instance_name = instance_name or self.app_name
        self.api_key = secrets.token_hex(16)
        self.port = free_port()
        self.url = f"http://{HOST}:{self.port}"
        self.clock = Clock()
        self.started_at = self.clock.now()
        self.requests: list[str] = []
        """Method and path of each request, in order."""
        self._runner: web.AppRunner | None = None

    @classmethod
    @contextlib.asynccontextmanager
    async def running(cls, **options: Any) -> AsyncIterator[Self]:
        """Run one, and stop it at the end."""
        server = cls(**options)
        await server.start()
        try:
            yield server
        finally:
            await server.stop()

    async def start(self) -> None:
        self.started_at = self.clock.now()
        application = web.Application(middlewares=[self._authenticate])
        application.add_routes(self.routes())
        self._runner = web.AppRunner(application, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, HOST, self.port).start()

    async def stop(self) -> None:
        runner, self._runner = self._runner, None
        if runner is not None:
            await runner.cleanup()

    async def restart(self) -> None:
        """Stop and start. What is only in memory is gone."""
        await self.stop()
        await self.start()

    @abc.abstractmethod
    def routes(self) -> list[web.RouteDef]:
        """Return what the application serves."""

    @web.middleware
    async def _authenticate(self, request: web.Request, handler: Any) -> web.StreamResponse:
        self.requests.append(f"{request.method} {request.path}")
        given = request.headers.get("X-Api-Key") or request.query.get("apikey")
        if given != self.api_key:
            return web.json_response({"error": "Unauthorized"}, status=401)
        response: web.StreamResponse = await handler(request)
        return response
