"""Run the parts of a process on open connections, and serve its health."""

import asyncio
import contextlib
import dataclasses
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from typing import Any, Final, NamedTuple

from mediabus.consumers.dead_letter_operations import serve_dead_letters
from mediabus.consumers.history.query import CONNECTIONS, serve_history
from mediabus.consumers.persister.run import persist
from mediabus.runtime.nats.backlog import measure_backlog
from mediabus.runtime.nats.bus import Bus, connect
from mediabus.runtime.nats.notifier_bucket import ensure_notifier_bucket
from mediabus.runtime.nats.streams import ensure_streams, keep_streams, wait_for_streams
from mediabus.runtime.postgres.database import AWAY, Pool, open_pool
from mediabus.runtime.postgres.schema import installation_id, wait_until_migrated
from mediabus.runtime.process.health import Check, serving
from mediabus.runtime.process.http_routes import Routes
from mediabus.runtime.process.live import Live
from mediabus.runtime.process.work import Work
from mediabus.runtime.settings import Settings
from mediabus.runtime.settings_errors import Faults
from mediabus.service.apps import AnyAppSettings
from mediabus.service.apps.api import serve_apps
from mediabus.service.apps.run import read_apps
from mediabus.service.clients.sessions import OpenSessions
from mediabus.service.config import Config
from mediabus.service.ingest.http.serve import serve_http
from mediabus.service.ingest.serve import serve_keys
from mediabus.service.monitor.monitor import monitor
from mediabus.service.operations.api import serve_operations
from mediabus.service.operations.open import open_operations
from mediabus.service.outbox.outbox import open_outbox
from mediabus.service.outbox.relay import relay_while_leading
from mediabus.wiring.registry import Process, imported


class Part(NamedTuple):
    """A process of the registry, ready to run: imported, and its settings parsed."""

    name: str
    run: Callable[[Work[Any]], Coroutine[Any, Any, None]]
    config: object = None
    needs_database: bool = True
    paths: tuple[str, ...] = ()
    live: Live[Any] | None = None
    """What a reload of the settings replaces; None if it does not follow them."""

    reloads: tuple[str, ...] = ()
    parse: Callable[[Settings], Any] | None = None
    check: Callable[[Any], Coroutine[Any, Any, None]] | None = None
    """See ``Process``."""


class PartEnded(Exception):
    """A part that runs until cancelled has returned. This is a bug."""


def parts_of(settings: Settings, processes: Sequence[Process]) -> tuple[Part, ...]:
    """Parse the settings of the processes, and leave out those that have nothing to do.

    One that follows its settings waits for something to do instead.

    Raises:
        SettingsError: if the settings cannot be used.
    """
    paths = dict.fromkeys(process.config for process in processes if process.config)
    faults, parsed = Faults(), dict[str, Any]()
    for path in paths:
        with faults.collected():
            parsed[path] = imported(path)(settings)
    faults.raise_first()
    return tuple(
        _part(process, parsed.get(process.config))
        for process in processes
        if not process.config or process.reloads or parsed[process.config] is not None
    )


def _part(process: Process, config: object) -> Part:
    return Part(
        process.name,
        imported(process.run),
        config,
        process.needs_database,
        process.paths,
        Live(config) if process.reloads else None,
        process.reloads,
        imported(process.config) if process.config else None,
        imported(process.check) if process.check else None,
    )


@contextlib.asynccontextmanager
async def working(
    settings: Settings,
    default_port: int,
    parts: Sequence[Part],
    *,
    announce: Callable[[str], None] | None = None,
    reload: Callable[[], Coroutine[Any, Any, None]] | None = None,
) -> AsyncIterator[asyncio.Task[None]]:
    """Run the parts on their own connections, and serve their health, while open.

    The part that serves the pages calls ``announce`` when they answer (see ``Work``). ``reload``
    reloads the settings until cancelled.
    """
    needs_database = any(part.needs_database for part in parts)
    routes = Routes(expected=[path for part in parts for path in part.paths])
    state = _State(routes, needs_database=needs_database)
    async with contextlib.AsyncExitStack() as stack:
        await stack.enter_async_context(
            serving(settings.http, default_port=default_port, checks=state.checks(), routes=routes)
        )
        if needs_database:
            pool = open_pool(settings.database, patient=True)
            state.pool = await stack.enter_async_context(pool)
        bus = await stack.enter_async_context(connect(settings.nats, name="mediabus"))
        state.bus = bus
        await _prepare(bus, state.pool, settings)
        work = Work(bus, settings, None, state.pool, routes, announce)
        running = asyncio.create_task(_all(parts, work, reload), name="parts")
        stack.push_async_callback(_cancelled, running)
        state.started = True
        yield running


async def _prepare(bus: Bus, pool: Pool | None, settings: Settings) -> None:
    """Wait for the schema, and create the streams; without a database, wait for the streams."""
    if pool is None:
        await wait_for_streams(bus)
        return
    await wait_until_migrated(pool)
    bus.installation = await installation_id(pool)
    await ensure_streams(bus, settings.nats)


async def _cancelled(work: asyncio.Task[None]) -> None:
    work.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await work


async def _all(
    parts: Sequence[Part], work: Work[Any], reload: Callable[[], Coroutine[Any, Any, None]] | None
) -> None:
    async with asyncio.TaskGroup() as tasks:
        if reload is not None:
            tasks.create_task(reload(), name="reload")
        if work.database is not None:
            tasks.create_task(keep_streams(work.bus, work.settings.nats), name="streams")
        for part in parts:
            own = dataclasses.replace(work, config=part.config, live=part.live)
            tasks.create_task(_until_cancelled(part, own), name=part.name)


async def _until_cancelled(part: Part, work: Work[Any]) -> None:
    """Run a part. Raises PartEnded if it ends although nothing cancelled this task.

    A TaskGroup ignores a task that returns, and a cancellation that a library raises. Without the
    error, the process would end silently or go on without the part.
    """
    try:
        await _wait_for_work(part)
        await part.run(work)
    except asyncio.CancelledError as error:
        if (task := asyncio.current_task()) and task.cancelling():
            raise
        raise PartEnded(f"{part.name} was cancelled, but not by mediabus") from error
    raise PartEnded(f"{part.name} ended by itself")


async def _wait_for_work(part: Part) -> None:
    """Wait until the settings have something to do for a part that follows them."""
    if part.live is not None and part.parse is not None:
        async for config in part.live.values():
            if config is not None:
                return


async def serve(work: Work[Config]) -> None:
    """Serve operations over NATS and events over HTTP, read applications, and relay events."""
    bus, pool, config = work.bus, work.pool, work.config
    database, apps = work.settings.database, list(config.apps)
    shares_database = database.events_url in {None, database.url}
    async with (
        open_operations(pool, bus, config.clients, config.allowed) as operations,
        serve_operations(bus, operations),
        serve_keys(bus),
        serve_dead_letters(bus),
        serve_apps(bus, pool, apps),
        serve_http(bus, work.routes, work.settings.ingest, apps),
        open_outbox(pool, bus) as outbox,
        asyncio.TaskGroup() as tasks,
    ):
        unreachable_after = work.settings.monitor.unreachable_after
        configured = (config.apps async for config in work.configs())
        reading = read_apps(bus, pool, outbox, configured, unreachable_after)
        tasks.create_task(reading, name="apps")
        tasks.create_task(measure_backlog(bus), name="backlog")
        tasks.create_task(_follow_settings(work, operations.sessions, apps), name="settings")
        tasks.create_task(_keep_notifier_bucket(work), name="notifier bucket")
        await relay_while_leading(pool, bus, confirm_in_events=shares_database)


async def _follow_settings(
    work: Work[Config], sessions: OpenSessions, apps: list[AnyAppSettings]
) -> None:
    """Use the clients and the applications of the settings that are in force."""
    async for config in work.configs():
        apps[:] = config.apps
        await sessions.apply(config.clients)


async def _keep_notifier_bucket(work: Work[Config]) -> None:
    """Create the bucket of the notifier, whose key may not, once the settings have a target."""
    async for config in work.configs():
        if config.has_targets:
            await ensure_notifier_bucket(work.bus, work.settings.nats)


async def watch(work: Work[Config]) -> None:
    """Monitor the download clients."""
    async with open_outbox(work.pool, work.bus) as outbox:
        clients = (config.clients async for config in work.configs())
        await monitor(work.bus, work.pool, outbox, work.settings.monitor, clients)


async def store(work: Work[None]) -> None:
    """Store events, and serve the history of the stored ones."""
    bus, pool, settings = work.bus, work.pool, work.settings
    async with contextlib.AsyncExitStack() as stack:
        url = settings.database.events_url
        if url:
            pool = await stack.enter_async_context(
                open_pool(settings.database, url=url, patient=True)
            )
            await wait_until_migrated(pool)
        tasks = await stack.enter_async_context(asyncio.TaskGroup())
        tasks.create_task(_history(bus, settings), name="history")
        tasks.create_task(persist(bus, pool, settings.persister), name="persister")


async def _history(bus: Bus, settings: Settings) -> None:
    """Serve the history over its own connections, so that no query delays an event."""
    database = settings.database
    pool = open_pool(database, url=database.events_url, size=CONNECTIONS, patient=True)
    async with pool as readers, serve_history(bus, readers):
        await asyncio.Event().wait()


READ_ONLY: Final = "SELECT current_setting('transaction_read_only')::boolean"
READ_ONLY_NOW: Final = "PostgreSQL is read-only: it is a standby, or was made read-only"


class _State:
    """The checks of ``/readyz``."""

    def __init__(self, routes: Routes, *, needs_database: bool) -> None:
        self._routes = routes
        self.started = False
        self.pool: Pool | None = None
        self.bus: Bus | None = None
        self._needs_database = needs_database

    def checks(self) -> dict[str, Check]:
        database: dict[str, Check] = (
            {"postgresql": self._postgresql} if self._needs_database else {}
        )
        return {"nats": self._nats, **database, "started": self._is_started}

    async def _nats(self) -> str | None:
        return None if self.bus and self.bus.is_connected else "waiting for NATS"

    async def _postgresql(self) -> str | None:
        if self.pool is None:
            return "waiting for PostgreSQL"
        try:
            async with self.pool.acquire(timeout=2) as connection:
                read_only = await connection.fetchval(READ_ONLY, timeout=2)
        except TimeoutError:
            return "no answer within 2 s"
        except AWAY as error:
            return f"PostgreSQL is unreachable: {error}"
        return READ_ONLY_NOW if read_only else None

    async def _is_started(self) -> str | None:
        if not self.started:
            return "waiting for the database schema or for streams"
        missing = self._routes.missing
        return f"waiting for the part that serves {', '.join(missing)}" if missing else None
