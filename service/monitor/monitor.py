"""The monitor: a watcher and a follower for each download client.

The watcher writes the statuses of a client to the bucket ``download_status``. The follower compares
them with the rows and makes the transitions. One process at a time monitors a client: the one that
holds its lease.
"""

import asyncio
import logging
from collections.abc import AsyncIterable, Callable, Coroutine, Sequence
from typing import Any, Final
from uuid import uuid4

from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy

from mediabus.runtime import metrics
from mediabus.runtime.nats.bus import Bus
from mediabus.runtime.nats.pull import ACK_WAIT, pulling
from mediabus.runtime.postgres.database import Pool
from mediabus.runtime.postgres.lease import while_leading
from mediabus.runtime.process.units import Units
from mediabus.runtime.settings import MonitorSettings
from mediabus.schemas.status import ClientName, ItemId
from mediabus.schemas.subjects import DOWNLOAD_STATUS_STREAM, STATUS_SUBJECT, WAKE_APPS
from mediabus.service.clients.settings import ClientSettings
from mediabus.service.downloads import table
from mediabus.service.monitor.follow.follower import Follower
from mediabus.service.monitor.follow.sweep import Sweep
from mediabus.service.monitor.watch.unwatched import purge_unwatched
from mediabus.service.monitor.watch.watcher import Watcher
from mediabus.service.outbox.outbox import Outbox
from mediabus.service.supervised import supervised

log: Final = logging.getLogger("mediabus.monitor")

BATCH: Final = 500
PURGED_WITHIN: Final = 10.0
"""Seconds to wait for the statuses of removed clients to be purged before new ones are watched."""

FORGOTTEN_AFTER: Final = 60.0
"""Seconds without a monitor after which the server deletes its consumer. A new one starts with the
latest value of every key."""


async def monitor(
    bus: Bus,
    pool: Pool,
    outbox: Outbox,
    settings: MonitorSettings,
    clients: AsyncIterable[Sequence[ClientSettings]],
) -> None:
    """Monitor every enabled client until cancelled.

    ``clients`` yields the clients of the settings, and all of them again after each change.
    """
    async with asyncio.TaskGroup() as tasks:
        _start(tasks, "sweep", Sweep(pool, outbox).run)
        monitored = _Monitored(bus, pool, outbox, settings, tasks)
        async for configured in clients:
            await monitored.apply(configured)


class _Monitored:
    """The clients that are monitored."""

    def __init__(
        self,
        bus: Bus,
        pool: Pool,
        outbox: Outbox,
        settings: MonitorSettings,
        tasks: asyncio.TaskGroup,
    ) -> None:
        self._bus = bus
        self._pool = pool
        self._outbox = outbox
        self._settings = settings
        self._tasks = tasks
        self._units = Units(tasks, self._monitor, name="monitor")
        self._names: list[str] = []
        self._watched: set[str] = set()
        self._purging = asyncio.Lock()
        self._has_started = False

    async def apply(self, clients: Sequence[ClientSettings]) -> None:
        """Monitor these clients. The monitors of unchanged ones are not disturbed."""
        is_start, self._has_started = not self._has_started, True
        self._names[:] = [client.name for client in clients]
        enabled = {client.name: client for client in clients if client.enabled}
        stopped = await self._units.stop_stale(enabled)
        for name in set(stopped) - enabled.keys():
            metrics.forget("client", name)
        self._watched.clear()
        self._watched.update(enabled)
        purging = self._tasks.create_task(self._purge(), name="purge unwatched")
        if not is_start:  # a client that comes back must not be purged while it is watched
            await asyncio.wait([purging], timeout=PURGED_WITHIN)
        self._units.start_missing(enabled)
        if not enabled:
            log.info("no download client is enabled, nothing to monitor")

    async def _purge(self) -> None:
        async with self._purging:
            await supervised("purge unwatched", lambda: purge_unwatched(self._bus, self._watched))

    async def _monitor(self, client: ClientSettings) -> None:
        unit = _Unit(self._bus, self._pool, self._outbox, self._settings, client, names=self._names)
        await while_leading(self._pool, f"monitor.{client.name}", unit.run)


def _start(
    tasks: asyncio.TaskGroup, name: str, work: Callable[[], Coroutine[Any, Any, None]]
) -> None:
    """Start a task that is restarted after an exception."""
    tasks.create_task(supervised(name, work), name=name)


class _Unit:
    """The watcher of one client, and the follower of its part of the bucket."""

    def __init__(
        self,
        bus: Bus,
        pool: Pool,
        outbox: Outbox,
        settings: MonitorSettings,
        client: ClientSettings,
        *,
        names: Sequence[str],
    ) -> None:
        self._bus = bus
        self._client = client

        async def expected(name: ClientName) -> set[ItemId]:
            return await table.expected_items(pool, name)

        self._watcher = Watcher(bus, client, settings, expected)
        self._follower = Follower(
            pool,
            outbox,
            settings,
            protocol=client.protocol,
            names=names,
            listing=self._watcher,
            sighted=self._wake_apps,
        )

    async def run(self) -> None:
        for counter in (metrics.STATUS_WRITTEN, metrics.DOWNLOADS_SKIPPED):
            counter.labels(self._client.name)  # from 0, so that the first one is an increase
        try:
            async with asyncio.TaskGroup() as tasks:
                _start(tasks, f"watch {self._client.name}", self._watcher.run)
                _start(tasks, f"follow {self._client.name}", lambda: self._follow(""))
                _start(tasks, f"follow all of {self._client.name}", self._follow_downloads)
        finally:
            metrics.forget("client", self._client.name)

    async def _wake_apps(self) -> None:
        """Make the applications be read: one of them may have grabbed a new download."""
        if self._bus.is_connected:
            await self._bus.nc.publish(WAKE_APPS)

    async def _follow_downloads(self) -> None:
        """Follow the downloads of the client after its first poll.

        Until then, statuses in the bucket may be older than changes that operations made.
        """
        await self._watcher.has_polled.wait()
        await self._follow(".*")

    async def _follow(self, keys: str) -> None:
        """Follow the keys with a new consumer that starts with the latest value of each.

        ``keys`` is the end of the keys: empty for the status of the client itself.
        """
        name = f"monitor-{self._client.name}-{uuid4().hex[:8]}"
        consumer = ConsumerConfig(
            durable_name=name,
            deliver_policy=DeliverPolicy.LAST_PER_SUBJECT,
            ack_policy=AckPolicy.EXPLICIT,
            ack_wait=ACK_WAIT,
            max_ack_pending=20_000,
            filter_subjects=[f"{STATUS_SUBJECT}{self._client.name}{keys}"],
            inactive_threshold=FORGOTTEN_AFTER,
        )
        async with pulling(
            self._bus, stream=DOWNLOAD_STATUS_STREAM, consumer=consumer, batch=BATCH
        ) as pull:
            while True:
                await self._follower.handle(await pull.messages(BATCH))
