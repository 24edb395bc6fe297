"""The monitor: follows the bucket ``download_status`` and says what happens to the downloads.

It holds no state: each look compares a row with what the bucket shows. Each client is watched by
one process at a time, whichever holds its lease.
"""

import asyncio
import contextlib
import datetime
import logging
from collections.abc import Sequence
from typing import Final
from uuid import uuid4

import asyncpg
import msgspec
from nats.aio.msg import Msg
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy
from nats.js.kv import KV_DEL, KV_OP, KV_PURGE

from schemas.status import ClientName, ClientStatus, DownloadStatus, ItemId, Protocol
from schemas.subjects import DOWNLOAD_STATUS_STREAM, item_of_key
from service.clients.settings import ClientSettings
from service.downloads import table
from service.downloads.row import DownloadRow, Transition
from service.monitor.discovery import Discovery
from service.monitor.lifecycle import SETTLES_WITHIN, Gone, Hold, is_stranger, next_step
from service.monitor.reachability import Reachability
from service.monitor.unwatched import SUBJECT, stop_showing_unwatched
from service.monitor.watcher import NOT_JSON, Watcher
from service.outbox.outbox import Outbox
from service.runtime import metrics
from service.runtime.bus import Bus
from service.runtime.database import AWAY, Pool
from service.runtime.lease import while_leading
from service.runtime.pull import ACK_WAIT, pulling
from service.runtime.settings import MonitorSettings, Settings

log: Final = logging.getLogger("mediabus.monitor")

BATCH: Final = 500
FORGOTTEN_AFTER: Final = 60.0
"""Seconds without a monitor after which the server drops its consumer; a new one sees every key."""

LOOK_AGAIN_AFTER: Final = 60.0
SWEEP_EVERY: Final = 30.0

Seen = DownloadStatus | Gone


async def monitor(
    bus: Bus,
    pool: Pool,
    outbox: Outbox,
    settings: Settings,
    clients: Sequence[ClientSettings],
) -> None:
    """Monitors every enabled client for ever."""
    names = [client.name for client in clients]
    async with asyncio.TaskGroup() as tasks:
        watched = [client.name for client in clients if client.enabled]
        tasks.create_task(stop_showing_unwatched(bus, watched), name="stop showing unwatched")
        for client in clients:
            if client.enabled:
                unit = _Unit(bus, pool, outbox, settings, client, names=names)
                work = while_leading(pool, f"monitor.{client.name}", unit.run)
                tasks.create_task(work, name=f"monitor {client.name}")
        if not any(client.enabled for client in clients):
            log.info("no download clients in the settings: nothing to monitor")
            await asyncio.Event().wait()


class _Unit:
    """One client's watcher, and the follower of its part of the bucket."""

    def __init__(
        self,
        bus: Bus,
        pool: Pool,
        outbox: Outbox,
        settings: Settings,
        client: ClientSettings,
        *,
        names: Sequence[str],
    ) -> None:
        self._bus = bus
        self._client = client
        self._follower = Follower(pool, outbox, settings.monitor, client.protocol, names)

        async def expected(name: ClientName) -> set[ItemId]:
            return await table.expected_items(pool, name)

        self._watcher = Watcher(bus, client, settings.monitor, settings.nats, expected)

    async def run(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._watcher.run(), name=f"watch {self._client.name}")
            tasks.create_task(self._follow(""), name=f"follow {self._client.name}")
            tasks.create_task(self._follow_downloads(), name=f"follow all of {self._client.name}")
            tasks.create_task(self._sweep(), name=f"sweep {self._client.name}")

    async def _sweep(self) -> None:
        """Looks for ever after downloads that were cut off before their client gave them an id."""
        while True:
            with contextlib.suppress(*AWAY):
                await self._follower.sweep(self._client.client_name)
            await asyncio.sleep(SWEEP_EVERY)

    async def _follow_downloads(self) -> None:
        """Not before the client was looked at: what the bucket showed of it until then may be older
        than what operations have done to its downloads meanwhile."""
        await self._watcher.has_looked.wait()
        await self._follow(".*")

    async def _follow(self, keys: str) -> None:
        """A consumer of its own, from the last value of every key on: whoever takes over looks at
        everything once. ``keys`` is how they end: nothing for the client's own."""
        name = f"monitor-{self._client.name}-{uuid4().hex[:8]}"
        consumer = ConsumerConfig(
            durable_name=name,
            deliver_policy=DeliverPolicy.LAST_PER_SUBJECT,
            ack_policy=AckPolicy.EXPLICIT,
            ack_wait=ACK_WAIT,
            max_ack_pending=20_000,
            filter_subjects=[f"{SUBJECT}{self._client.name}{keys}"],
            inactive_threshold=FORGOTTEN_AFTER,
        )
        async with pulling(
            self._bus, stream=DOWNLOAD_STATUS_STREAM, consumer=consumer, batch=BATCH
        ) as pull:
            while True:
                await self._follower.handle(await pull.messages(BATCH))


class Follower:
    """Turns what the bucket says into steps. ``names`` are those of all clients of the settings."""

    def __init__(
        self,
        pool: Pool,
        outbox: Outbox,
        settings: MonitorSettings,
        protocol: Protocol,
        names: Sequence[str],
    ) -> None:
        self._pool = pool
        self._outbox = outbox
        self._stalled_after = settings.stalled_after
        self._reachability = Reachability(pool, outbox)
        self._discovery = Discovery(
            pool, outbox, protocol=protocol, after=settings.discovered_after, names=names
        )
        self._last: dict[ItemId, DownloadStatus] = {}

    async def handle(self, messages: Sequence[Msg]) -> None:
        """One pass: acknowledges what was acted on; what is too early, or met a database that is
        away, comes again."""
        newest = {message.subject: message for message in messages}
        for message in messages:
            if newest[message.subject] is not message:
                await message.ack()
        try:
            rows = await self._rows(newest)
            for subject, message in newest.items():
                await self._handle_safely(subject.removeprefix(SUBJECT), message, rows)
        except AWAY as error:
            log.warning("statuses wait for PostgreSQL", extra={"reason": str(error)})
            await asyncio.sleep(0.5)
            for message in newest.values():
                if not message.is_acked:
                    await message.nak(delay=0.5)

    async def _handle_safely(
        self, key: str, message: Msg, rows: dict[tuple[str, str], DownloadRow]
    ) -> None:
        """One key that cannot be handled is looked at again later, and holds up no other."""
        try:
            await self._handle_one(key, message, rows)
        except AWAY:
            raise
        except NOT_JSON as error:  # what comes to stand there instead is looked at
            log.warning("no status", extra={"key": key, "reason": str(error)})
            await message.ack()
        except Exception:
            log.exception("status not handled: looking again later", extra={"key": key})
            await message.nak(delay=LOOK_AGAIN_AFTER)

    async def sweep(self, client: ClientName) -> None:
        """One pass over downloads that were never handed over."""
        for row in await table.without_item(self._pool, client):
            await self._step(row, Gone())

    async def _rows(self, subjects: dict[str, Msg]) -> dict[tuple[str, str], DownloadRow]:
        named = [item_of_key(subject.removeprefix(SUBJECT)) for subject in subjects]
        return await table.latest_by_item(self._pool, [item for item in named if item])

    async def _handle_one(
        self, key: str, message: Msg, rows: dict[tuple[str, str], DownloadRow]
    ) -> None:
        named = item_of_key(key)
        hold = None
        if named is None:
            await self._reachability.take(msgspec.json.decode(message.data, type=ClientStatus))
        else:
            seen = self._seen(named[1], message)
            row = rows.get(named)
            at = message.metadata.timestamp
            if row and _is_deletion(message) and at < row.created_at:
                row = None  # what is gone is an earlier download of the same item
            if row is None or at > row.updated_at or not is_stranger(row):
                hold = await self._look(row, seen, at)
        if hold:
            await message.nak(delay=hold.seconds)
            return
        await message.ack()
        if named and _is_deletion(message):
            self._last.pop(named[1], None)
            self._discovery.forget(named[1])

    async def _look(
        self, row: DownloadRow | None, seen: Seen, shown_at: datetime.datetime
    ) -> Hold | None:
        if isinstance(seen, DownloadStatus) and is_stranger(row):
            return await self._discovery.take(seen, shown_at)
        return await self._step(row, seen) if row else None

    def _seen(self, item: ItemId, message: Msg) -> Seen:
        if _is_deletion(message):
            return Gone(self._last.get(item))
        status = msgspec.json.decode(message.data, type=DownloadStatus)
        self._last[item] = status
        return status

    async def _step(self, row: DownloadRow, seen: Seen) -> Hold | None:
        """Takes the step that is due, if there is one, and looks again afterwards: another may
        follow, and whoever was faster has changed the row."""
        match next_step(row, seen, self._stalled_after):
            case Transition() as transition:
                try:
                    if not await table.step(self._outbox, row, transition):
                        return Hold(0.1)
                except asyncpg.UniqueViolationError:
                    return Hold(LOOK_AGAIN_AFTER)  # its media item is being downloaded anew
                for event in transition.events:
                    metrics.TRANSITIONS.labels(event.type).inc()
                return Hold(SETTLES_WITHIN)
            case Hold() as hold:
                return hold
            case None:
                return None


def _is_deletion(message: Msg) -> bool:
    return (message.headers or {}).get(KV_OP) in {KV_DEL, KV_PURGE}
