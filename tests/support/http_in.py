"""Serve one HTTP endpoint on loopback, as a process does, and call it."""

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any, NamedTuple

import aiohttp
import msgspec
from aiohttp import web

Endpoint = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


class Reply(NamedTuple):
    """The answer to a request."""

    status: int
    body: Any
    headers: Mapping[str, str]


@contextlib.asynccontextmanager
async def serving_endpoint(endpoint: Endpoint) -> AsyncIterator[str]:
    """Serve the endpoint at every path. Yield the base URL."""
    runner = web.ServerRunner(web.Server(endpoint, access_log=None), shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


async def send(url: str, body: Any, *, method: str = "POST", **headers: str) -> Reply:
    """Send a request. A body that is not bytes is sent as JSON."""
    data = body if isinstance(body, bytes) else msgspec.json.encode(body)
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    named.setdefault("Content-Type", "application/json")
    async with (
        aiohttp.ClientSession() as session,
        session.request(method, url, data=data, headers=named) as response,
    ):
        content = await response.read()
        return Reply(response.status, msgspec.json.decode(content), response.headers)
