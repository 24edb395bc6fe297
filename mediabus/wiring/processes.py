"""Run a process of the registry, or all of them: wait for the servers, work, stop on SIGTERM."""

import asyncio
import contextlib
import json
import logging
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, Final

import msgspec

from mediabus.runtime.embedded import data_dir_lock, embedded_nats, embedded_postgres
from mediabus.runtime.postgres.database import open_pool
from mediabus.runtime.postgres.schema import migrate as apply_migrations
from mediabus.runtime.private_files import write_private
from mediabus.runtime.process import logs
from mediabus.runtime.process.process import run
from mediabus.runtime.settings import Settings, SettingsError
from mediabus.runtime.settings_file import CONNECTION_FILE
from mediabus.runtime.tracing import tracing
from mediabus.wiring.parts import parts_of, working
from mediabus.wiring.registry import PROCESSES, SERVICE, Process
from mediabus.wiring.reloading import Reloading, Source

log: Final = logging.getLogger("mediabus.process")


def run_process(process: Process, settings: Settings, source: Source | None = None) -> None:
    """Run one process until SIGTERM. Raises SettingsError.

    The process follows changes of the settings in ``source``.
    """
    parts = parts_of(settings, (process,))
    if process.config and not any(part.config is not None for part in parts):
        raise SettingsError(f"`mediabus {process.name}` has nothing to do: {process.absent}")
    logs.set_up(settings.log)
    reloading = Reloading(source or Source.fixed(settings), settings, parts)

    async def main() -> None:
        async with (
            tracing(f"mediabus-{process.name}"),
            working(settings, process.port, parts, reload=reloading.run) as work,
        ):
            log.info("ready")
            await work

    run(main, on_hangup=reloading.ask)


def up(settings: Settings, ready: Callable[[Settings, str], None], source: Source) -> None:
    """Run all processes in this one, with servers of its own unless the settings name servers.

    Calls ``ready`` once the pages answer, with the settings in force and with what the pages
    announce. Follows changes of the settings in ``source``. Raises SettingsError.
    """
    parts = parts_of(settings, [process for process in PROCESSES if process.in_up])
    logs.set_up(settings.log)
    reloading = Reloading(source, settings, parts)

    async def main() -> None:
        async with tracing("mediabus"), servers(settings) as complete:
            async with open_pool(complete.database, patient=True) as pool:
                await apply_migrations(pool)
            announced: asyncio.Future[str] = asyncio.get_running_loop().create_future()
            async with working(
                complete,
                SERVICE.port,
                parts,
                announce=announced.set_result,
                reload=reloading.run,
            ) as work:
                either: set[asyncio.Future[Any]] = {work, announced}
                await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
                if announced.done():
                    ready(complete, announced.result())
                await work

    run(main, on_hangup=reloading.ask)


def migrate(settings: Settings) -> list[int]:
    """Update the database schema. Returns the migrations that were applied."""

    async def main() -> list[int]:
        async with open_pool(settings.database, size=2) as pool:
            applied = await apply_migrations(pool)
        if settings.database.events_url:
            async with open_pool(settings.database, url=settings.database.events_url) as pool:
                applied += await apply_migrations(pool)
        return applied

    return asyncio.run(main())


@contextlib.asynccontextmanager
async def servers(settings: Settings) -> AsyncIterator[Settings]:
    """Start each server that the settings do not name. Yield the settings with all URLs."""
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
