"""Watch one download client: poll it and write changes to the bucket ``download_status``.

An outage changes only the client's own key, and only after ``unreachable_after`` seconds.
"""

import asyncio
import contextlib
import datetime
import logging
from collections.abc import Awaitable, Callable
from typing import Final

import msgspec
from nats.errors import Error as NatsError

from mediabus.runtime import metrics
from mediabus.runtime.nats.bus import Bus
from mediabus.runtime.postgres.database import AWAY, RESTORING
from mediabus.runtime.settings import MonitorSettings
from mediabus.schemas.status import ClientName, ClientStatus, ItemId, Phase
from mediabus.schemas.subjects import LOOK_SUBJECT
from mediabus.service.clients.guard import guarded, words_of
from mediabus.service.clients.port import (
    ClientRefused,
    ClientUnavailable,
    DownloadClient,
    Observation,
    Snapshot,
)
from mediabus.service.clients.settings import ClientSettings
from mediabus.service.monitor.follow.reachability import Patience
from mediabus.service.monitor.follow.retries import Retries
from mediabus.service.monitor.watch.figures import show_downloads, show_outage
from mediabus.service.monitor.watch.mirror import Mirror
from mediabus.service.monitor.watch.restarts import Restarts
from mediabus.service.monitor.watch.stall_clock import StallClock
from mediabus.service.monitor.watch.status_writer import StatusWriter

log: Final = logging.getLogger("mediabus.monitor")

MAX_PAUSE: Final = 60.0
"""Seconds between polls of a client whose replies are invalid: reading them may be expensive."""

CREDENTIALS_PAUSE: Final = 60.0
"""Seconds between logins with refused credentials: clients ban addresses that retry often."""

POLLED_SOON: Final = 0.5
POLLED_LATER: Final = 15.0
"""Seconds until a requested poll is expected to be done; the latter during an outage."""

BUSY: Final = frozenset(
    {
        Phase.QUEUED,
        Phase.METADATA,
        Phase.DOWNLOADING,
        Phase.CHECKING,
        Phase.MOVING,
        Phase.PROCESSING,
    }
)

Expected = Callable[[ClientName], Awaitable[set[ItemId]]]
"""Returns the items that a client should still list."""


class Watcher:
    """The watcher of one client. All its state can be restored from the bucket and the client."""

    def __init__(
        self,
        bus: Bus,
        settings: ClientSettings,
        monitor: MonitorSettings,
        expected: Expected,
    ) -> None:
        self._bus = bus
        self._settings = settings
        self._name = settings.client_name
        self._unreachable_after = monitor.unreachable_after
        self._expected = expected
        self._mirror = Mirror(monitor.removed_after)
        self._clock = StallClock(step=min(monitor.stalled_after, 60.0))
        self._restarts = Restarts()
        self._retries = Retries()
        self._writer = StatusWriter(bus, self._name, self._mirror)
        self._away_since: datetime.datetime | None = None
        self._returned: str | None = None  # version of a client whose recovery is not reported yet
        self._back_at = 0.0
        self._patience = Patience()
        self._faults = 0  # consecutive invalid replies
        self._away_at = 0.0  # start of the outage, in seconds of the event loop's clock
        self.has_polled = asyncio.Event()  # and the bucket has the result
        self._poll_requested = asyncio.Event()
        self._polled_at = 0.0  # start of the latest successful poll

    async def run(self) -> None:
        """Watch until cancelled.

        Any exception counts as an outage of this client. The watcher then logs in again and
        reloads the bucket.
        """
        while True:
            try:
                await self._watch()
            except Exception as error:  # noqa: BLE001 - a client may show anything
                pause = await self._report_fault(error)
                await asyncio.sleep(pause)

    async def _watch(self) -> None:
        subject = f"{LOOK_SUBJECT}.{self._name}"
        subscription = await self._bus.nc.subscribe(subject, cb=self._on_poll_request)
        try:
            async with guarded(self._settings) as client:
                await self._load()
                while True:
                    self._poll_requested.clear()  # a request during the poll needs another one
                    pause = await self.poll(client)
                    with contextlib.suppress(TimeoutError):
                        await asyncio.wait_for(self._poll_requested.wait(), timeout=pause)
        finally:
            with contextlib.suppress(NatsError):
                await subscription.unsubscribe()

    async def _report_fault(self, error: Exception) -> float:
        """Report an unexpected exception, with its traceback at the start of an outage."""
        if self._away_since is None:
            log.error("watching client failed", extra={"client": self._name}, exc_info=error)
        words = f"{self._name} cannot be watched: {words_of(error)}"
        return await self._report_outage(ClientUnavailable("protocol", words))

    async def _on_poll_request(self, _: object) -> None:
        self.poll_soon()

    def poll_soon(self) -> float:
        """See ``Listing``. Ignored during an outage: it would shorten the pause between logins."""
        if self._away_since is not None:
            return POLLED_LATER
        self._poll_requested.set()
        return POLLED_SOON

    def lists(self, item: ItemId, *, since: float) -> bool:
        """See ``Listing``."""
        return self._polled_at > since and self._mirror.has(item)

    async def poll(self, client: DownloadClient) -> float:
        """Poll once and write the changes. Returns the seconds until the next poll."""
        try:
            is_back = self._away_since is not None or not self.has_polled.is_set()
            version = await client.version() if is_back else None
            # A change is observed only once: nothing may fail between observing and applying it.
            began = asyncio.get_running_loop().time()
            seen = await client.observe()
            self._apply(seen)
            self._polled_at = began
        except (ClientUnavailable, ClientRefused) as error:
            return await self._report_outage(error)
        self._away_since = None
        self._faults = 0
        show_downloads(self._name, self._mirror.shown())
        if version is not None:
            self._returned, self._back_at = version, began
        if self._returned is not None and self._is_steady(began):
            await self._report_recovery(self._returned)
            self._returned = None
        await self._report_warning(seen.warning if isinstance(seen, Snapshot) else None)
        with contextlib.suppress(*AWAY, *RESTORING):  # the next poll tries again
            self._mirror.expect(await self._expected(self._name))
        await self._writer.write_downloads()
        self.has_polled.set()
        return self._pause()

    def _apply(self, seen: Observation) -> None:
        now = asyncio.get_running_loop().time()
        self._mirror.apply(seen, now)
        if isinstance(seen, Snapshot) and seen.restarted:
            log.info("client restarted", extra={"client": self._name})
            self._restarts.note_restart(now)
        self._mirror.amend(self._clock.update(self._mirror.shown(), now))
        self._mirror.amend(self._restarts.update(self._mirror.shown(), now))
        if self._settings.protocol == "usenet":
            self._mirror.amend(self._retries.update(self._mirror.shown(), now))

    def _pause(self) -> float:
        busy = any(status.phase in BUSY for status in self._mirror.shown())
        soon = busy or self._mirror.is_waiting()
        return self._settings.poll_active if soon else self._settings.poll_idle

    def _is_steady(self, now: float) -> bool:
        """Return whether to report the recovery. It is delayed after repeated outages."""
        return (
            not self._is_reported_unreachable()
            or now - self._back_at >= self._patience.steady_for(now)
        )

    def _is_reported_unreachable(self) -> bool:
        status = self._writer.client_status
        return status is not None and not status.reachable

    async def _report_recovery(self, version: str) -> None:
        metrics.CLIENT_REACHABLE.set(1, self._name)
        log.info("client reachable", extra={"client": self._name, "version": version})
        status = self._writer.client_status
        known = status if status and status.reachable else None
        if known is None or known.version != version:
            since = known.since if known else _now()
            await self._report(reachable=True, since=since, version=version)

    async def _report_warning(self, warning: str | None) -> None:
        """Keep the warning of the client in its status up to date."""
        status = self._writer.client_status
        if status is None or not status.reachable or status.warning == warning:
            return
        if warning:
            log.warning(
                "client reports a warning", extra={"client": self._name, "warning": warning}
            )
        await self._writer.write_client(msgspec.structs.replace(status, warning=warning))

    async def _report_outage(self, error: ClientUnavailable | ClientRefused) -> float:
        """Report an outage once it lasts ``unreachable_after`` seconds. Returns the pause."""
        self._clock.pause()
        reason = error.reason if isinstance(error, ClientUnavailable) else "protocol"
        now = asyncio.get_running_loop().time()
        if self._away_since is None:
            self._away_since, self._away_at = _now(), now
            show_outage(self._name)
            log.warning("client unreachable: %s", error, extra={"client": self._name})
        lasted = now - self._away_at
        self._returned = None
        if lasted >= self._unreachable_after and not self._is_reported_unreachable():
            await self._report(
                reachable=False, since=self._away_since, reason=reason, message=str(error)
            )
            self._patience.note_outage(now)
        if reason in {"authentication", "banned"}:
            return (
                CREDENTIALS_PAUSE if lasted >= self._unreachable_after else self._unreachable_after
            )
        if reason == "protocol" and lasted >= self._unreachable_after:
            self._faults += 1
            return min(self._settings.poll_active * 2.0 ** min(self._faults, 10), MAX_PAUSE)
        return min(self._settings.poll_active, max(self._unreachable_after - lasted, 0.05))

    async def _report(self, **facts: object) -> None:
        facts = {"client": self._name, "kind": kind_of(self._settings), **facts}
        await self._writer.write_client(msgspec.convert(facts, ClientStatus))

    async def _load(self) -> None:
        """Restore the state from the bucket."""
        written = await self._writer.load()
        self._clock.start_with(written)
        self._restarts.start_with(written)
        self._retries.start_with(written, asyncio.get_running_loop().time())


def kind_of(settings: ClientSettings) -> str:
    """Return the ``kind`` of the settings, such as ``qbittorrent``."""
    return str(type(settings).__struct_config__.tag)


def _now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC)
