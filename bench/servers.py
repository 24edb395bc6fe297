"""Real servers, events and processes that every benchmark uses.

NATS and PostgreSQL come from their wheels with the settings of ``mediabus up``: every
acknowledgement is on disk (``sync_interval: always``, ``fsync`` on).
"""

import asyncio
import contextlib
import os
import signal
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from pathlib import Path
from typing import Final, NamedTuple
from uuid import UUID

from mediabus.runtime.embedded import data_dir_lock, embedded_nats, embedded_postgres
from mediabus.runtime.nats.bus import Bus, connect
from mediabus.runtime.nats.streams import ensure_streams
from mediabus.runtime.postgres.database import Pool, open_pool
from mediabus.runtime.postgres.schema import migrate
from mediabus.runtime.settings import DatabaseSettings, NatsSettings
from mediabus.schemas import codec
from mediabus.schemas.envelope import Envelope
from mediabus.schemas.events import DownloadCompleted
from mediabus.schemas.identity import Actor, Resource, uuid7
from mediabus.schemas.subjects import subject_of
from mediabus.service.outbox.publish import Outgoing

REPOSITORY: Final = Path(__file__).parent.parent
ACTOR_HEADERS: Final = {"Mediabus-Actor-Type": "user", "Mediabus-Actor-Id": "42"}


class Failed(Exception):
    """A benchmark failed. The message has the reason."""


class Stack(NamedTuple):
    """Real servers, and connections to them. ``environment`` is for processes of mediabus."""

    bus: Bus
    pool: Pool
    nats_url: str
    database_url: str
    data_dir: Path
    environment: dict[str, str]


@contextlib.asynccontextmanager
async def stack() -> AsyncIterator[Stack]:
    """Start empty servers."""
    with tempfile.TemporaryDirectory(prefix="mediabus-bench-") as folder:
        async with (
            data_dir_lock(Path(folder)) as data_dir,
            embedded_nats(data_dir) as nats_url,
            embedded_postgres(data_dir) as database_url,
            open_pool(DatabaseSettings(url=database_url)) as pool,
            connect(NatsSettings(url=nats_url), name="bench") as bus,
        ):
            await migrate(pool)
            await ensure_streams(bus, NatsSettings(url=nats_url))
            variables = {
                "MEDIABUS_NATS_URL": nats_url,
                "MEDIABUS_DATABASE_URL": database_url,
                "MEDIABUS_HTTP_PORT": "0",
                "MEDIABUS_LOG_LEVEL": "error",
            }
            environment = {**os.environ, **variables}
            yield Stack(bus, pool, nats_url, database_url, data_dir, environment)


def mediabus(*arguments: str) -> tuple[str, ...]:
    """Return the command line of mediabus in this installation."""
    return (str(Path(sys.executable).with_name("mediabus")), *arguments)


@contextlib.asynccontextmanager
async def process(
    *command: str, environment: Mapping[str, str]
) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run another process. On exit, terminate it, and kill it if it does not end."""
    running = await asyncio.create_subprocess_exec(
        *command, env=environment, cwd=REPOSITORY, stdin=asyncio.subprocess.DEVNULL
    )
    try:
        yield running
    finally:
        with contextlib.suppress(ProcessLookupError):
            running.send_signal(signal.SIGTERM)
        try:
            await asyncio.wait_for(running.wait(), timeout=10)
        except TimeoutError:
            running.kill()
            await running.wait()


def event(download: UUID | None = None) -> Outgoing:
    """Return a typical event of about 500 bytes, of this download or of a new one."""
    download = download or uuid7()
    envelope = Envelope.of(
        DownloadCompleted(
            download_id=download,
            title="Dune.Part.One.2021.2160p.WEB-DL",
            client="home",
            size=23_622_320_128,
        ),
        actor=Actor("system", "download_monitor"),
        resource=Resource("download", str(download)),
    )
    return Outgoing(envelope.id, subject_of(envelope), codec.encode(envelope))


async def until(
    condition: Callable[[], Awaitable[object]], every: float = 0.02, within: float = 300
) -> float:
    """Wait for a condition. Return the time at which it held, by ``time.perf_counter``.

    Raises TimeoutError.
    """
    async with asyncio.timeout(within):
        while not await condition():  # noqa: ASYNC110 - the condition depends on other processes
            await asyncio.sleep(every)
    return time.perf_counter()


async def answers(bus: Bus, subject: str) -> bool:
    """Return whether an operation that accepts an empty request is served."""
    with contextlib.suppress(Exception):
        await bus.nc.request(subject, b"{}", timeout=1)
        return True
    return False
