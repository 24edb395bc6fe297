"""Parts of a process add routes to its HTTP server, and cannot delay its health."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import aiohttp
import pytest
from aiohttp import web

from mediabus.runtime.nats.bus import Bus
from mediabus.runtime.nats.streams import ensure_streams
from mediabus.runtime.process import http_server
from mediabus.runtime.process.health import serving
from mediabus.runtime.process.http_routes import Lane, Routes, TooManyStreams
from mediabus.runtime.process.work import Work
from mediabus.runtime.settings import HttpSettings, NatsSettings, Settings
from mediabus.wiring.parts import Part, working
from tests.support.eventually import eventually
from tests.support.ports import free_port


@contextlib.asynccontextmanager
async def served(routes: Routes) -> AsyncIterator[str]:
    settings = HttpSettings(port=0)
    async with serving(settings, default_port=0, checks={}, routes=routes) as port:
        yield f"http://127.0.0.1:{port}"


async def name(request: web.BaseRequest) -> web.StreamResponse:
    return web.Response(text=f"{request.method} {request.path}")


async def body_of(session: aiohttp.ClientSession, url: str, method: str = "GET") -> str:
    async with session.request(method, url) as response:
        return await response.text()


async def test_the_longest_prefix_wins_and_routes_leave_with_their_part() -> None:
    async def hook(_: web.BaseRequest) -> web.StreamResponse:
        return web.Response(text="hook")

    routes = Routes()
    async with served(routes) as url, aiohttp.ClientSession() as session:
        with routes.handling("/", name), routes.handling("/hooks/", hook):
            assert await body_of(session, f"{url}/hooks/sonarr/x") == "hook"
            assert await body_of(session, f"{url}/hooks") == "GET /hooks"
            assert await body_of(session, f"{url}/any", "POST") == "POST /any"
            assert await body_of(session, f"{url}/livez") == "ok\n"
        async with session.get(f"{url}/any") as response:
            assert response.status == 404


async def test_expected_path_answers_503_until_its_part_handles_it() -> None:
    routes = Routes(expected=["/hooks/", "/events"])
    async with served(routes) as url, aiohttp.ClientSession() as session:
        with routes.handling("/", name):
            for path in ("/hooks/sonarr/x", "/events"):
                async with session.post(f"{url}{path}") as response:
                    assert (response.status, response.headers["Retry-After"]) == (503, "10")
            assert await body_of(session, f"{url}/any") == "GET /any"
            with routes.handling("/hooks/", name), routes.handling("/events", name):
                assert await body_of(session, f"{url}/hooks/x", "POST") == "POST /hooks/x"
                assert await body_of(session, f"{url}/events", "POST") == "POST /events"


async def test_a_process_is_ready_once_its_parts_handle_their_paths(
    bus: Bus, nats_url: str
) -> None:
    may_handle = asyncio.Event()

    async def run(work: Work[None]) -> None:
        await may_handle.wait()
        with work.routes.handling("/events", name):
            await asyncio.Event().wait()

    port = free_port()
    settings = Settings(nats=NatsSettings(url=nats_url), http=HttpSettings(port=port))
    await ensure_streams(bus, settings.nats)
    part = Part("slow", run, needs_database=False, paths=("/events",))
    url = f"http://127.0.0.1:{port}"
    async with working(settings, 0, [part]), aiohttp.ClientSession() as session:

        async def readiness() -> str:
            return await body_of(session, f"{url}/readyz")

        waiting = "started: waiting for the part that serves /events\n"
        assert await readiness() == waiting
        may_handle.set()

        async def is_ready() -> bool:
            return await readiness() == "ok\n"

        await eventually(is_ready, within=30)
        assert await body_of(session, f"{url}/events", "POST") == "POST /events"


async def test_two_parts_cannot_handle_one_path() -> None:
    routes = Routes()
    with routes.handling("/events", name), pytest.raises(ValueError, match="/events"):
        routes.handling("/events", name).__enter__()


async def test_health_answers_while_requests_of_parts_hang_and_a_new_one_gets_in() -> None:
    """Two hundred requests never end. The server aborts the oldest ones."""
    never = asyncio.Event()
    begun: asyncio.Queue[None] = asyncio.Queue()

    async def hang(_: web.BaseRequest) -> web.StreamResponse:
        begun.put_nowait(None)
        await never.wait()
        return web.Response()

    routes = Routes()
    connector = aiohttp.TCPConnector(limit=0)
    async with served(routes) as url, aiohttp.ClientSession(connector=connector) as session:
        with routes.handling("/hang", hang), routes.handling("/name", name):
            hung = []
            for _ in range(200):
                hung.append(asyncio.create_task(body_of(session, f"{url}/hang")))
                await begun.get()
            async with session.get(f"{url}/livez") as response:
                assert response.status == 200
            assert await body_of(session, f"{url}/name") == "GET /name"
            never.set()
            ended = await asyncio.gather(*hung, return_exceptions=True)
            assert any(isinstance(it, aiohttp.ClientError) for it in ended)
            assert "" in ended


async def test_a_stream_outlives_the_limit_of_idle_connections(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(http_server, "MAX_LIFETIME", 0.2)
    more = asyncio.Event()
    routes = Routes()

    async def stream(request: web.BaseRequest) -> web.StreamResponse:
        response = web.StreamResponse()
        with routes.streaming(request):
            await response.prepare(request)
            await response.write(b"one ")
            await more.wait()
            await response.write(b"two")
        return response

    async with served(routes) as url, aiohttp.ClientSession() as session:
        with routes.handling("/stream", stream):
            async with session.get(f"{url}/stream") as response:
                asyncio.get_running_loop().call_later(0.6, more.set)
                assert await response.text() == "one two"


async def test_streams_have_a_limit_of_their_own() -> None:
    routes = Routes()
    routes._most_streams = 1
    refused, more = 0, asyncio.Event()

    async def stream(request: web.BaseRequest) -> web.StreamResponse:
        nonlocal refused
        try:
            with routes.streaming(request):
                await more.wait()
        except TooManyStreams:
            refused += 1
            return web.Response(status=503)
        return web.Response()

    async with served(routes) as url, aiohttp.ClientSession() as session:
        with routes.handling("/stream", stream):
            both = [asyncio.create_task(body_of(session, f"{url}/stream")) for _ in range(2)]
            await eventually(lambda: refused)
            more.set()
            await asyncio.gather(*both)
    assert refused == 1


async def test_a_request_that_lasts_too_long_is_aborted() -> None:
    routes = Routes()
    routes._requests = Lane(4, 0.2)

    async def hang(_: web.BaseRequest) -> web.StreamResponse:
        await asyncio.sleep(30)
        return web.Response()

    async with served(routes) as url, aiohttp.ClientSession() as session:
        with routes.handling("/hang", hang), pytest.raises(aiohttp.ClientError):
            await body_of(session, f"{url}/hang")
