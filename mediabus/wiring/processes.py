"""The processes of mediabus: each waits for its servers, works, and leaves on SIGTERM."""

import asyncio
import contextlib
import json
import logging
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Final

import msgspec

from service.cli.parts import Part, monitor_part, operations_part, persister_part, working
from service.clients.reach import allowed_hosts
from service.clients.sessions import client_settings
from service.runtime import logs
from service.runtime.database import migrate as apply_migrations
from service.runtime.database import open_pool
from service.runtime.embedded import data_dir_lock, embedded_nats, embedded_postgres
from service.runtime.lifecycle import run
from service.runtime.private import write_private
from service.runtime.settings import CONNECTION_FILE, Settings

log: Final = logging.getLogger("mediabus.process")

SERVICE_PORT: Final = 8321
MONITOR_PORT: Final = 8322
PERSIST_PORT: Final = 8323


def service(settings: Settings) -> None:
    """The operations over NATS, and the relay."""
    _must_be_usable(settings)
    _run(settings, SERVICE_PORT, operations_part)


def monitor(settings: Settings) -> None:
    """The monitor of the download clients."""
    _must_be_usable(settings)
    _run(settings, MONITOR_PORT, monitor_part)


def persist(settings: Settings) -> None:
    """The persister, and the history that it answers questions about."""
    _run(settings, PERSIST_PORT, persister_part)


def up(settings: Settings, ready: Callable[[Settings], None]) -> None:
    """Everything in one process, with servers of its own where the settings name none. Calls
    ``ready`` with the settings in force once all parts work."""
    _must_be_usable(settings)
    logs.set_up(settings.log)

    async def main() -> None:
        async with _servers(settings) as complete:
            async with open_pool(complete.database) as pool:
                await apply_migrations(pool)
            parts = (operations_part, monitor_part, persister_part)
            async with working(complete, SERVICE_PORT, parts) as work:
                ready(complete)
                await work

    run(main)


def migrate(settings: Settings) -> list[int]:
    """Brings the database schema up to date and answers the migrations that were applied."""

    async def main() -> list[int]:
        async with open_pool(settings.database, size=2) as pool:
            applied = await apply_migrations(pool)
        if settings.database.events_url:
            async with open_pool(settings.database, url=settings.database.events_url) as pool:
                applied += await apply_migrations(pool)
        return applied

    return asyncio.run(main())


def _must_be_usable(settings: Settings) -> None:
    """Says what is wrong with the settings before waiting for servers. Raises SettingsError."""
    client_settings(settings)
    allowed_hosts(settings.downloads.allowed_hosts)


def _run(settings: Settings, default_port: int, part: Part) -> None:
    logs.set_up(settings.log)

    async def main() -> None:
        async with working(settings, default_port, (part,)) as work:
            log.info("ready")
            await work

    run(main)


@contextlib.asynccontextmanager
async def _servers(settings: Settings) -> AsyncIterator[Settings]:
    """The settings with every URL in them, of servers that are started here where none is named."""
    async with contextlib.AsyncExitStack() as stack:
        data_dir = await stack.enter_async_context(data_dir_lock(Path(settings.data_dir)))
        nats_url, database_url = settings.nats.url, settings.database.url
        if nats_url is None:
            nats_url = await stack.enter_async_context(embedded_nats(data_dir))
        if database_url is None:
            database_url = await stack.enter_async_context(embedded_postgres(data_dir))
        urls = {"nats_url": nats_url, "database_url": database_url}
        write_private(data_dir / CONNECTION_FILE, json.dumps(urls))
        yield msgspec.structs.replace(
            settings,
            nats=msgspec.structs.replace(settings.nats, url=nats_url),
            database=msgspec.structs.replace(settings.database, url=database_url),
        )
