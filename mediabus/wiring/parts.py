"""The parts of mediabus at work: wired to open connections, and their health served."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any, Final

from consumers.history import serve_history
from consumers.persister.run import persist
from service.clients.reach import allowed_hosts
from service.clients.sessions import client_settings
from service.monitor.monitor import monitor
from service.operations.api import serve_operations
from service.operations.open import open_operations
from service.outbox.outbox import open_outbox
from service.outbox.relay import relay_while_leading
from service.runtime.bus import Bus, connect
from service.runtime.database import AWAY, Pool, open_pool, wait_until_migrated
from service.runtime.health import serving
from service.runtime.settings import Settings
from service.runtime.streams import ensure_streams

log: Final = logging.getLogger("mediabus.process")

Part = Callable[[Bus, Pool, Settings], Coroutine[Any, Any, None]]
"""What a process does, given open connections: for ever."""


class PartEnded(Exception):
    """What should go on for ever has ended. It is a fault of ours."""


@contextlib.asynccontextmanager
async def working(
    settings: Settings, default_port: int, parts: tuple[Part, ...]
) -> AsyncIterator[asyncio.Task[None]]:
    """The parts at work on connections of their own, and the health of it all served."""
    state = _State()
    async with (
        serving(settings.http, default_port=default_port, checks=state.checks()),
        open_pool(settings.database) as pool,
        connect(settings.nats, name="mediabus") as bus,
    ):
        state.pool, state.bus = pool, bus
        await wait_until_migrated(pool)
        await ensure_streams(bus, settings.nats)
        work = asyncio.create_task(_all(parts, bus, pool, settings), name="parts")
        state.started = True
        try:
            yield work
        finally:
            work.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await work


async def _all(parts: tuple[Part, ...], bus: Bus, pool: Pool, settings: Settings) -> None:
    async with asyncio.TaskGroup() as tasks:
        for part in parts:
            tasks.create_task(_for_ever(part, bus, pool, settings), name=part.__name__)


async def _for_ever(part: Part, bus: Bus, pool: Pool, settings: Settings) -> None:
    """Raises PartEnded where a part ends that nobody told to. A group of tasks takes no notice of
    that, nor of a cancellation that comes out of a library: the process would end without a word,
    or go on without the part."""
    try:
        await part(bus, pool, settings)
    except asyncio.CancelledError as error:
        if (task := asyncio.current_task()) and task.cancelling():
            raise
        raise PartEnded(f"{part.__name__} was cancelled by nobody") from error
    raise PartEnded(f"{part.__name__} ended by itself")


async def operations_part(bus: Bus, pool: Pool, settings: Settings) -> None:
    """The operations over NATS, and the relay."""
    clients = client_settings(settings)
    shared = settings.database.events_url in {None, settings.database.url}
    async with (
        open_operations(
            pool, bus, clients, allowed_hosts(settings.downloads.allowed_hosts)
        ) as operations,
        serve_operations(bus, operations),
    ):
        await relay_while_leading(pool, bus, confirm_in_events=shared)


async def monitor_part(bus: Bus, pool: Pool, settings: Settings) -> None:
    """The monitor of the download clients."""
    async with open_outbox(pool, bus) as outbox:
        await monitor(bus, pool, outbox, settings, client_settings(settings))


async def persister_part(bus: Bus, pool: Pool, settings: Settings) -> None:
    """The persister, and the history that it answers questions about."""
    async with contextlib.AsyncExitStack() as stack:
        url = settings.database.events_url
        if url:
            pool = await stack.enter_async_context(open_pool(settings.database, url=url))
            await wait_until_migrated(pool)
        await stack.enter_async_context(serve_history(bus, pool))
        await persist(bus, pool, settings.persister)


class _State:
    """What ``/readyz`` asks."""

    def __init__(self) -> None:
        self.started = False
        self.pool: Pool | None = None
        self.bus: Bus | None = None

    def checks(self) -> dict[str, Callable[[], Coroutine[Any, Any, str | None]]]:
        return {"nats": self._nats, "postgresql": self._postgresql, "started": self._is_started}

    async def _nats(self) -> str | None:
        return None if self.bus and self.bus.is_connected else "waiting for NATS"

    async def _postgresql(self) -> str | None:
        if self.pool is None:
            return "waiting for PostgreSQL"
        try:
            async with self.pool.acquire(timeout=2) as connection:
                await connection.fetchval("SELECT 1", timeout=2)
        except TimeoutError:
            return "no answer within 2 s"
        except AWAY as error:
            return f"PostgreSQL is away: {error}"
        return None

    async def _is_started(self) -> str | None:
        return None if self.started else "waiting for the database schema or for streams"
