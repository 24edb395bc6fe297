"""A whole mediabus in the process of the test, used as a user would.

Requests go over NATS, events are read from PostgreSQL.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

import asyncpg
import msgspec

from mediabus.runtime.nats.bus import connect
from mediabus.runtime.postgres.database import Pool, open_pool
from mediabus.runtime.settings import MonitorSettings, Settings
from mediabus.schemas.identity import Actor
from mediabus.schemas.operations.requests import ACTOR_ID_HEADER, ACTOR_TYPE_HEADER
from mediabus.service.clients import AnyClientSettings
from mediabus.wiring.parts import parts_of, working
from mediabus.wiring.registry import MONITOR, PERSIST, SERVICE, Process
from tests.support.eventually import eventually

ALL: Sequence[Process] = (SERVICE, MONITOR, PERSIST)
USER = Actor("user", "42")

EVENTS = """
SELECT type, severity, category, actor_type, actor_id, resource_type, resource_id, correlation_id,
       data, occurred_at, id, stream_seq
FROM events WHERE ($1::text IS NULL OR resource_id = $1) ORDER BY stream_seq
"""


class Refused(Exception):
    """A reply with an error."""

    def __init__(self, code: int, reason: str, field: str | None, message: str) -> None:
        super().__init__(f"{code} {reason} {field}: {message}")
        self.code, self.reason, self.field, self.message = code, reason, field, message


class Library:
    """A user's view of a running mediabus."""

    def __init__(self, nats: Any, pool: Pool) -> None:
        self.nats = nats
        self.pool = pool

    async def ask(
        self,
        subject: str,
        request: Mapping[str, Any] | bytes = b"",
        *,
        actor: Actor | None = USER,
        headers: Mapping[str, str] | None = None,
        timeout: float = 20,
    ) -> Any:
        """A request's reply, or Refused."""
        body = request if isinstance(request, bytes) else msgspec.json.encode(request)
        sent = dict(headers or {})
        if actor:
            sent |= {ACTOR_TYPE_HEADER: actor.type, ACTOR_ID_HEADER: actor.id}
        reply = await self.nats.request(subject, body, timeout=timeout, headers=sent or None)
        answer = msgspec.json.decode(reply.data)
        if reply.headers and "Nats-Service-Error-Code" in reply.headers:
            wrong = answer["error"]
            assert str(wrong["code"]) == reply.headers["Nats-Service-Error-Code"]
            raise Refused(wrong["code"], wrong["reason"], wrong["field"], wrong["message"])
        return answer

    async def events(self, resource_id: str | None = None) -> list[asyncpg.Record]:
        """What is stored, in the order of the stream."""
        return await self.pool.fetch(EVENTS, resource_id)

    async def types(self, resource_id: str | None = None) -> list[str]:
        """The types of what is stored."""
        return [row["type"] for row in await self.events(resource_id)]

    async def event(
        self, event_type: str, resource_id: str | None = None, *, within: float = 20
    ) -> asyncpg.Record:
        """The one event of a type, waited for."""

        async def arrived() -> list[asyncpg.Record]:
            return [row for row in await self.events(resource_id) if row["type"] == event_type]

        rows = await eventually(arrived, within=within)
        assert len(rows) == 1, f"{event_type} was said {len(rows)} times"
        return rows[0]


def with_clients(settings: Settings, *clients: AnyClientSettings, **monitor: float) -> Settings:
    """The settings with download clients that are looked at often."""
    quick = [msgspec.structs.replace(c, poll_active=0.3, poll_idle=0.3) for c in clients]
    return msgspec.structs.replace(
        settings,
        clients=[msgspec.to_builtins(client) for client in quick],
        monitor=MonitorSettings(**{"unreachable_after": 1.0, "removed_after": 1.0, **monitor}),
    )


@contextlib.asynccontextmanager
async def library(settings: Settings, processes: Sequence[Process] = ALL) -> AsyncIterator[Library]:
    """A running mediabus, each process with its own connections."""
    async with contextlib.AsyncExitStack() as stack:
        works = [
            await stack.enter_async_context(working(settings, 0, parts_of(settings, (process,))))
            for process in processes
        ]
        bus = await stack.enter_async_context(connect(settings.nats, name="user", wait=10))
        pool = await stack.enter_async_context(open_pool(settings.database, size=2))
        user = Library(bus.nc, pool)
        if SERVICE in processes:
            await eventually(lambda: answers(user), within=10)
        yield user
        for work in works:
            assert not work.done() or work.cancelled(), work
        await asyncio.sleep(0)


async def answers(user: Library) -> bool:
    try:
        await user.ask("media.list", timeout=0.5)
        await user.ask("downloads.list", timeout=0.5)
    except Exception:  # noqa: BLE001 - not yet
        return False
    return True
