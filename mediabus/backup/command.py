"""`mediabus backup` and `mediabus restore`."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from importlib.metadata import version
from pathlib import Path
from typing import Final

import click

from mediabus.backup import streams, tables
from mediabus.backup.archive import (
    FORMAT,
    Archive,
    BackupError,
    DatabaseBackup,
    Manifest,
    StreamBackup,
    created,
    opened,
)
from mediabus.backup.progress import Progress
from mediabus.commands.context import Face
from mediabus.commands.help import examples
from mediabus.consumers.history.archive import published_after
from mediabus.runtime.nats.bus import Bus, connect
from mediabus.runtime.postgres.database import Pool, open_pool
from mediabus.runtime.settings import Settings
from mediabus.schemas.subjects import DEAD_LETTERS_STREAM, EVENTS_STREAM, subject_of
from mediabus.service.outbox.publish import Outgoing, publish_all
from mediabus.wiring.processes import servers

CONNECT_WITHIN: Final = 10.0
TRIES: Final = 5
OPERATIONS: Final = "operations"
EVENTS: Final = "events"
"""The databases of a backup. EVENTS exists only if ``database.events_url`` is set."""

Pools = dict[str, Pool]


@click.command(
    epilog=examples(
        "mediabus backup mediabus-2026-11-28.backup",
        "mediabus --data-dir /var/lib/mediabus backup /backups/today",
    )
)
@click.argument("file", metavar="FILE", type=click.Path(dir_okay=False, path_type=Path))
@click.pass_obj
def backup(face: Face, file: Path) -> None:
    """Back up PostgreSQL and the NATS streams to one file, while mediabus runs.

    FILE appears under its name once it is complete. Only its owner may read it, because it contains
    all data of mediabus. The command needs a role that owns the database and, with `mediabus
    secure`, the key of `mediabus service`.
    """
    asyncio.run(_backup(face.resolved_settings(), file))
    click.echo(f"{file} is complete: {file.stat().st_size / 1e6:.1f} MB")


@click.command(
    epilog=examples(
        "mediabus restore mediabus-2026-11-28.backup",
        "mediabus --data-dir /var/lib/mediabus restore /backups/today",
        "MEDIABUS_NATS_URL=… MEDIABUS_DATABASE_URL=… mediabus restore home.backup",
    )
)
@click.argument("file", metavar="FILE", type=click.Path(dir_okay=False, path_type=Path))
@click.pass_obj
def restore(face: Face, file: Path) -> None:
    """Restore a backup to empty servers, or to an empty data directory.

    Stop mediabus first. If the settings name no servers, the command starts those of `mediabus up`
    in the data directory and stops them when it is done. It never overwrites existing data.
    """
    asyncio.run(_restore(face.settings(), file))
    click.echo(f"{file} is restored. Start mediabus.")


async def _backup(settings: Settings, file: Path) -> None:
    async with _connected(settings) as (bus, pools):
        with created(file) as archive:
            archive.write_manifest(await _write(bus, pools, archive, Progress()))


async def _write(bus: Bus, pools: Pools, archive: Archive, progress: Progress) -> Manifest:
    """Copy the events before PostgreSQL, and the dead letters after it.

    A row leaves the outbox only after its event is stored or dead-lettered.
    """
    started = await tables.now_in(pools.get(EVENTS, pools[OPERATIONS]))
    deleted = await streams.deleted_from(bus, DEAD_LETTERS_STREAM)
    saved = [
        await _saved_stream(bus, archive, name, progress)
        for name in await streams.streams_to_save(bus)
        if name != DEAD_LETTERS_STREAM
    ]
    databases = {
        name: await _saved_database(pool, archive, name, progress) for name, pool in pools.items()
    }
    if await streams.deleted_from(bus, DEAD_LETTERS_STREAM) != deleted:
        raise BackupError("a dead letter was retried or discarded during the backup: run it again")
    saved.append(await _saved_stream(bus, archive, DEAD_LETTERS_STREAM, progress))
    return Manifest(FORMAT, version("mediabus"), started, saved, databases)


async def _saved_stream(bus: Bus, archive: Archive, name: str, progress: Progress) -> StreamBackup:
    progress.heading(f"stream {name}")
    return await streams.save_stream(bus, archive, name, progress)


async def _saved_database(
    pool: Pool, archive: Archive, name: str, progress: Progress
) -> DatabaseBackup:
    progress.heading(f"database {name}")
    saved = await tables.save_database(pool, archive, name, progress)
    rows = ", ".join(f"{table.rows} {table.name}" for table in saved.tables if table.rows)
    progress.note(rows or "empty")
    return saved


async def _restore(settings: Settings, file: Path) -> None:
    with opened(file) as archive:
        manifest, progress = archive.manifest(), Progress()
        async with servers(settings) as complete, _connected(complete) as (bus, pools):
            await _check(bus, pools, manifest)
            for name, pool in pools.items():
                progress.heading(f"database {name}")
                saved = manifest.databases[name]
                await tables.load_database(pool, archive, name, saved, progress)
            for stream in manifest.streams:
                progress.heading(f"stream {stream.name}")
                await _load_stream(bus, archive, stream, progress)
            count = await _publish_again(bus, pools, manifest)
            click.echo(f"published {count} events that the stream did not have yet", err=True)


async def _check(bus: Bus, pools: Pools, manifest: Manifest) -> None:
    """Raise BackupError if the restore would overwrite data. Nothing has changed yet."""
    if pools.keys() != manifest.databases.keys():
        raise BackupError(
            "the backup was made "
            + ("with" if EVENTS in manifest.databases else "without")
            + " database.events_url: use the same setting to restore it"
        )
    for pool in pools.values():
        await tables.check_is_empty(pool)
    for stream in manifest.streams:
        if await streams.messages_in(bus, stream.name):
            raise BackupError(
                f"stream {stream.name} in NATS has messages: restore to an empty server"
            )


async def _load_stream(
    bus: Bus, archive: Archive, stream: StreamBackup, progress: Progress
) -> None:
    if await streams.messages_in(bus, stream.name) is not None:
        await bus.js.delete_stream(stream.name)  # it is empty
    await streams.load_stream(bus, archive, stream, progress)


async def _publish_again(bus: Bus, pools: Pools, manifest: Manifest) -> int:
    """Publish the events that were stored after the stream was copied, in order, with their ids.

    Consumers other than the persister have not received them.
    """
    [events] = [stream for stream in manifest.streams if stream.name == EVENTS_STREAM]
    pool = pools.get(EVENTS, pools[OPERATIONS])
    last, count = streams.last_sequence(events), 0
    async for page in published_after(pool, last, manifest.started):
        outgoing = []
        for row in page:
            payload, headers = row.sent()
            outgoing.append(Outgoing(row.id, subject_of(row.envelope()), payload, headers))
        await publish_all(bus, outgoing)
        count += len(outgoing)
    return count


@contextlib.asynccontextmanager
async def _connected(settings: Settings) -> AsyncIterator[tuple[Bus, Pools]]:
    async with contextlib.AsyncExitStack() as stack:
        bus = await stack.enter_async_context(
            connect(settings.nats, name="mediabus backup", wait=CONNECT_WITHIN)
        )
        database = settings.database
        pools = {OPERATIONS: await stack.enter_async_context(open_pool(database, size=3))}
        if database.events_url not in {None, database.url}:
            pools[EVENTS] = await stack.enter_async_context(
                open_pool(database, url=database.events_url, size=3)
            )
        yield bus, pools
