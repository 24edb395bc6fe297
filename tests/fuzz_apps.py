"""Fuzzing the readers of applications and the receiver of webhooks.

Recorded answers and webhooks are changed anywhere, as in ``fuzz_clients``.

python -m tests.fuzz_apps [--examples 2000] [KIND ...]
"""

import argparse
import asyncio
import contextlib
import datetime
import itertools
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Final

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from bench.servers import stack
from mediabus.runtime.nats.bus import Bus
from mediabus.runtime.postgres.database import Pool
from mediabus.runtime.settings import Settings
from mediabus.schemas import codec
from mediabus.service.apps import AnyAppSettings
from mediabus.service.apps.configured import KINDS, app_settings
from mediabus.service.apps.connect import ConnectFailed, connect_app
from mediabus.service.apps.history.reader import HistoryReader
from mediabus.service.apps.http import AppHttp, app_http
from mediabus.service.apps.run import AppReader
from mediabus.service.apps.state import list_apps, meet, request_import
from mediabus.service.clients.port import ClientUnavailable
from mediabus.service.ingest.http.webhooks import Webhooks
from mediabus.service.outbox.outbox import Outbox, open_outbox
from tests.fuzz_clients import (
    DEEP,
    HOST,
    PLANS,
    TIMEOUT,
    Plan,
    Server,
    changed,
    computes_little,
    encoded,
    mangled,
)
from tests.support.apps.acting import recorded
from tests.support.stream import messages

POLL: Final = 60.0
BOUND: Final = 60.0
"""Seconds for an example, on a busy machine: its answers time out, but the database is slow."""

MIN_TRIED: Final = 8
"""Examples that are tried in any case."""

PAST: Final = datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC)
WHOLE: Final = Plan([], [], "whole")
TAKE: Final = "DELETE FROM outbox RETURNING payload"

Example = tuple[Plan, int]
EXAMPLES: Final = st.tuples(PLANS, st.integers(0, 1_000))
"""A plan, and the number of the answer or webhook that it changes."""


class AppServer(Server):
    """An application with recorded answers. The plan changes one of them."""

    def __init__(self, kind: str, answers: dict[str, Any]) -> None:
        super().__init__(kind)
        self.answers = answers
        self._example: Example = WHOLE, 0

    def change(self, plan: Plan, number: int) -> None:
        self._example = plan, number % len(self.answers)

    def reply(self, request: bytes) -> Any:
        method, target, _ = request.split(b" ", 2)
        path = target.decode().partition("?")[0]
        known = [other for other in self.answers if path.startswith(other)]
        found = max(known, key=len, default=next(iter(self.answers)))
        plan, number = self._example
        self.plan = plan if found == list(self.answers)[number] else WHOLE
        answer = self.answers[found]
        is_stored = method != b"GET" and isinstance(answer, list)
        return answer[0] if is_stored else answer


@contextlib.asynccontextmanager
async def serving(kind: str, answers: dict[str, Any]) -> AsyncIterator[tuple[AppServer, str]]:
    """Serve the answers. Yields the server and its URL."""
    server = AppServer(kind, answers)
    listener = await asyncio.start_server(server.converse, HOST, 0)
    async with listener:
        yield server, f"http://{HOST}:{listener.sockets[0].getsockname()[1]}"


def configured(kind: str, name: str, url: str, timeout: float = TIMEOUT) -> AnyAppSettings:
    table = {"name": name, "kind": kind, "url": url, "api_key": "x" * 32}
    (app,) = app_settings(
        Settings(apps=[{**table, "timeout": timeout, "poll": POLL, "health_hold": 0.0}]), {}
    )
    return app


class Reading:
    """Reads an application whose answers are changed, each time as one that is new."""

    def __init__(self, server: AppServer, url: str, bus: Bus, pool: Pool, outbox: Outbox) -> None:
        self._server, self._url = server, url
        self._bus, self._pool, self._outbox = bus, pool, outbox
        self._numbers = itertools.count()

    async def bear(self, example: Example) -> int:
        """Every read ends in time, without an error, and what it records is valid.

        A later read with good answers succeeds. Returns the number of recorded events.
        """
        app = configured(self._server.kind, f"app{next(self._numbers)}", self._url)
        await meet(self._pool, app)
        self._server.change(*example)
        started = time.monotonic()
        with computes_little():
            assert 0 < await self._reader(app).poll_once() <= POLL
        await self._read_past(app)
        await self._connect(app)
        assert time.monotonic() - started < BOUND
        self._server.change(WHOLE, 0)
        patient = configured(self._server.kind, app.name, self._url, timeout=20.0)
        await self._reader(patient).poll_once()
        states = {state.name: state for state in await list_apps(self._pool)}
        assert states[app.name].reachable, states[app.name].error_message
        payloads = [row["payload"] for row in await self._pool.fetch(TAKE)]
        for payload in payloads:
            codec.decode(payload)
        return len(payloads)

    def _reader(self, app: AnyAppSettings) -> AppReader:
        return AppReader(self._bus, self._pool, self._outbox, app, 0.0)

    async def _read_past(self, app: AnyAppSettings) -> None:
        async def learn(_: AppHttp) -> None:
            return None

        if app.has_history:
            await request_import(self._pool, app.name, PAST)
            history = HistoryReader(self._pool, self._outbox, app, learn)
            with contextlib.suppress(ClientUnavailable), computes_little():
                async with app_http(app) as http:
                    await history.read_past(http)

    async def _connect(self, app: AnyAppSettings) -> None:
        with contextlib.suppress(ClientUnavailable, ConnectFailed), computes_little():
            async with app_http(app) as http:
                await connect_app(app, http, "http://127.0.0.1:1", replace=True)


class Receiving:
    """Receives webhooks that are changed."""

    def __init__(self, kind: str, bodies: list[dict[str, Any]], bus: Bus) -> None:
        self._bus, self._bodies = bus, bodies
        self._app = configured(kind, "fuzzed", "http://127.0.0.1:1")
        self._webhooks = Webhooks(bus, [self._app])

    async def bear(self, example: Example) -> int:
        """Every webhook is answered 200 or 400, in time. Returns the status."""
        plan, number = example
        body = encoded(changed(self._bodies[number % len(self._bodies)], plan))
        body = b'{"eventType":' + b"[" * DEEP if plan.way == "deep" else mangled(body, plan)
        with computes_little():
            response = await self._webhooks._accept(self._app, body)
        assert response.status in {200, 400}, response.body
        return response.status

    async def check(self) -> int:
        """What was stored is valid. Returns how many events were stored."""
        found = await messages(self._bus)
        for message in found:
            codec.decode(message.data or b"")
        return len(found)


async def fuzz_answers(
    kind: str, bus: Bus, pool: Pool, examples: int, *, seconds: float = float("inf")
) -> int:
    """Try so many changed answers, until so many seconds have passed. Return how many."""
    answers = (await recorded(kind)).answers
    async with open_outbox(pool, bus) as outbox, serving(kind, answers) as (server, url):
        reading = Reading(server, url, bus, pool, outbox)
        recorded_events = await reading.bear((WHOLE, 0))
        assert recorded_events > 0 or not KINDS[kind].has_history, "no answer was understood"
        return await _tried(reading.bear, examples, seconds)


async def fuzz_webhooks(
    kind: str, bus: Bus, examples: int, *, seconds: float = float("inf")
) -> int:
    """Try so many changed webhooks, until so many seconds have passed. Return how many."""
    bodies = (await recorded(kind)).bodies
    receiving = Receiving(kind, [{"eventType": "Unheard"}, *bodies], bus)
    for number in range(1 + len(bodies)):
        assert await receiving.bear((WHOLE, number)) == 200
    tried = await _tried(receiving.bear, examples, seconds)
    assert await receiving.check() > 0
    return tried


async def _tried(bear: Callable[[Example], Awaitable[int]], examples: int, seconds: float) -> int:
    """Try examples on this event loop; hypothesis itself runs in a thread."""
    loop = asyncio.get_running_loop()
    deadline, tried = time.monotonic() + seconds, 0

    async def borne(example: Example) -> None:
        async with asyncio.timeout(1.5 * BOUND):
            await bear(example)

    @settings(
        max_examples=examples,
        deadline=None,
        database=None,
        phases=[Phase.generate, Phase.shrink],
        suppress_health_check=[*HealthCheck],
    )
    @given(EXAMPLES)
    def attempt(example: Example) -> None:
        nonlocal tried
        if tried < MIN_TRIED or time.monotonic() < deadline:
            tried += 1
            asyncio.run_coroutine_threadsafe(borne(example), loop).result()

    await asyncio.to_thread(attempt)
    return tried


async def _fuzz_all(kinds: list[str], examples: int) -> None:
    async with stack() as servers:
        for kind in kinds:
            answers = await fuzz_answers(kind, servers.bus, servers.pool, examples)
            webhooks = await fuzz_webhooks(kind, servers.bus, examples)
            sys.stdout.write(f"{kind}: {answers} answers, {webhooks} webhooks\n")


def main() -> None:
    """Fuzz the kinds named, or all."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--examples", type=int, default=2_000)
    parser.add_argument("kinds", nargs="*", default=list(KINDS))
    arguments = parser.parse_args()
    asyncio.run(_fuzz_all(arguments.kinds, arguments.examples))


if __name__ == "__main__":
    main()
