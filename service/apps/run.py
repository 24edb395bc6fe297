"""Read the applications: one process at a time reads each, the one that holds its lease.

The history has the facts; a webhook only wakes the reader.
"""

import asyncio
import contextlib
import datetime
import functools
import logging
import time
from collections.abc import AsyncIterable, AsyncIterator, Sequence
from typing import Final

import msgspec
from nats.aio.msg import Msg
from nats.errors import Error as NatsError

from mediabus.runtime import metrics
from mediabus.runtime.nats.bus import Bus
from mediabus.runtime.postgres.database import Pool
from mediabus.runtime.postgres.lease import while_leading
from mediabus.runtime.process.units import Units
from mediabus.schemas.subjects import WAKE_APPS, WAKE_SUBJECT
from mediabus.service.apps import state
from mediabus.service.apps.health import Health
from mediabus.service.apps.history.reader import HistoryReader
from mediabus.service.apps.http import AppHttp, app_http
from mediabus.service.apps.library.sync import GONE_AFTER, Library
from mediabus.service.apps.port import Removal
from mediabus.service.apps.settings import AppSettings
from mediabus.service.apps.wake import decode_wake
from mediabus.service.clients.limits import cut
from mediabus.service.clients.port import ClientUnavailable
from mediabus.service.outbox.outbox import Outbox
from mediabus.service.supervised import supervised

log: Final = logging.getLogger("mediabus.apps")

DEBOUNCE: Final = 1.0
"""Seconds after a webhook in which further ones are waited for."""

FIRST_RETRY: Final = 5.0
"""Seconds to the next poll of an application that does not answer, doubled up to ``poll``."""

LEARN_EVERY: Final = 30.0
"""Seconds between two lists of the library that rows about unknown items cause."""

PAST_EVERY: Final = 2.0
"""Seconds between two checks for a requested import."""

MAX_VERSION: Final = 100
"""Characters of a version."""

MAX_REMOVALS: Final = 10_000
"""Removals that webhooks report between two reads of the library."""


class Version(msgspec.Struct):
    """What ``system/status`` says."""

    version: str = "unknown"


async def read_apps(
    bus: Bus,
    pool: Pool,
    outbox: Outbox,
    apps: AsyncIterable[Sequence[AppSettings]],
    unreachable_after: float,
) -> None:
    """Read every application until cancelled. ``unreachable_after`` is in seconds.

    ``apps`` yields the applications of the settings, and all of them again after each change. The
    readers of unchanged ones go on.
    """

    async def read(app: AppSettings) -> None:
        reader = AppReader(bus, pool, outbox, app, unreachable_after)
        await supervised(f"read {app.name}", functools.partial(_lead, pool, reader))

    async with asyncio.TaskGroup() as tasks:
        units = Units(tasks, read, name="read")
        async for configured in apps:
            wanted = {app.name: app for app in configured}
            for name in await units.stop_stale(wanted):
                if name not in wanted:
                    metrics.forget("app", name)  # also without its lease
            units.start_missing(wanted)


async def _lead(pool: Pool, reader: "AppReader") -> None:
    await while_leading(pool, f"apps.{reader.name}", reader.run)


class AppReader:
    """The reader of one application."""

    def __init__(
        self,
        bus: Bus,
        pool: Pool,
        outbox: Outbox,
        settings: AppSettings,
        unreachable_after: float,
    ) -> None:
        self._bus = bus
        self._pool = pool
        self._outbox = outbox
        self._settings = settings
        self.name = settings.name
        self._unreachable_after = unreachable_after
        self._history = HistoryReader(pool, outbox, settings, self._learn)
        self._library = Library(outbox, settings)
        self._health = Health(outbox, settings)
        self._woken = asyncio.Event()
        self._has_webhook = False
        self._library_due_at = 0.0
        self._removals: list[Removal] = []
        self._learned_at: float | None = None
        self._failing_since: datetime.datetime | None = None
        self._retry_after = FIRST_RETRY

    async def run(self) -> None:
        """Read until cancelled."""
        await state.meet(self._pool, self._settings)
        for counter in (metrics.APP_ROWS, metrics.APP_EVENTS):
            counter.labels(self.name)  # from 0, so that the first one is an increase
        try:
            async with self._hearing_webhooks(), asyncio.TaskGroup() as tasks:
                for name, work in {"poll": self._poll, "import": self._import}.items():
                    task_name = f"{name} {self.name}"
                    tasks.create_task(supervised(task_name, work), name=task_name)
        finally:
            metrics.forget("app", self.name)

    async def _poll(self) -> None:
        while True:
            await self._wait(await self.poll_once())

    async def poll_once(self) -> float:
        """Read all that is due. Returns the seconds to the next poll."""
        try:
            async with app_http(self._settings) as http:
                version = await http.get(self._settings.status, Version)
                await self._read(http)
        except ClientUnavailable as error:
            return await self._not_answered(error)
        self._failing_since, self._retry_after = None, FIRST_RETRY
        metrics.APP_REACHABLE.set(1, self.name)
        metrics.APP_LAST_SUCCESS.set(time.time(), self.name)
        await state.answered(self._outbox, self.name, cut(version.version, MAX_VERSION))
        return self._until_next()

    async def _read(self, http: AppHttp) -> None:
        now = asyncio.get_running_loop().time()
        if now >= self._library_due_at:
            await self._read_library(http)
        if self._settings.has_history:
            await self._history.read_new(http)
            await self._health.read(http)
        await self._history.end_quiet_imports()

    async def _read_library(self, http: AppHttp) -> None:
        removals, self._removals = self._removals, []
        await self._library.note_removals(removals)
        is_missing = await self._library.sync(http)
        pause = GONE_AFTER + 1 if is_missing else self._settings.sweep
        self._library_due_at = asyncio.get_running_loop().time() + pause

    async def _learn(self, http: AppHttp) -> None:
        """Read the library because rows name items that are not in it."""
        now = asyncio.get_running_loop().time()
        if self._learned_at is None or now - self._learned_at >= LEARN_EVERY:
            self._learned_at = now
            await self._read_library(http)

    async def _not_answered(self, error: ClientUnavailable) -> float:
        metrics.APP_REACHABLE.set(0, self.name)
        now = datetime.datetime.now(datetime.UTC)
        if self._failing_since is None:
            self._failing_since = now
            log.warning("application unreachable", extra={"app": self.name, "error": str(error)})
        away = (now - self._failing_since).total_seconds()
        if away >= self._unreachable_after:
            await state.lost(self._outbox, self.name, self._failing_since, error)
            retry, self._retry_after = self._retry_after, 2 * self._retry_after
            return min(retry, self._settings.poll)
        return min(FIRST_RETRY, self._settings.poll, self._unreachable_after - away + 0.1)

    def _until_next(self) -> float:
        left = self._library_due_at - asyncio.get_running_loop().time()
        return max(0.1, min(self._settings.poll, left))

    async def _wait(self, seconds: float) -> None:
        """Wait for a webhook, and a moment for further ones, or until the time has passed."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._woken.wait()
            await asyncio.sleep(DEBOUNCE)
        self._woken.clear()
        if self._has_webhook:
            self._has_webhook = False
            await state.woken(self._pool, self.name)

    @contextlib.asynccontextmanager
    async def _hearing_webhooks(self) -> AsyncIterator[None]:
        hears = {f"{WAKE_SUBJECT}.{self.name}": self._hear_webhook, WAKE_APPS: self._hear}
        subscriptions = [await self._bus.nc.subscribe(to, cb=hear) for to, hear in hears.items()]
        try:
            yield
        finally:
            for subscription in subscriptions:
                with contextlib.suppress(NatsError):
                    await subscription.unsubscribe()

    async def _hear_webhook(self, message: Msg) -> None:
        wake = decode_wake(message.data)
        if wake.is_about_library:
            self._library_due_at = 0.0
        if wake.removal is not None and len(self._removals) < MAX_REMOVALS:
            self._removals.append(wake.removal)
        self._has_webhook = True
        self._woken.set()

    async def _hear(self, _: Msg) -> None:
        self._woken.set()

    async def _import(self) -> None:
        """Import the past when that is requested, next to the polls."""
        while self._settings.has_history:
            try:
                async with app_http(self._settings) as http:
                    await self._history.read_past(http)
            except ClientUnavailable as error:
                fields = {"app": self.name, "error": str(error)}
                log.warning("import interrupted, will retry", extra=fields)
            await asyncio.sleep(PAST_EVERY)
