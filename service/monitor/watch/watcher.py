"""Watching one download client: what it shows goes into the bucket ``download_status``, on change.

An outage changes nothing there but the client's own key, and that only once it has lasted.
"""

import asyncio
import contextlib
import datetime
import logging
from collections.abc import Awaitable, Callable
from typing import Final

import msgspec
from nats.errors import Error as NatsError
from nats.js.errors import APIError, BucketNotFoundError, KeyNotFoundError
from nats.js.kv import KV_DEL, KV_PURGE, KeyValue

from schemas.status import ClientName, ClientStatus, DownloadStatus, ItemId, Phase
from schemas.subjects import item_of_key, status_key
from service.clients.port import (
    ClientRefused,
    ClientUnavailable,
    DownloadClient,
    Observation,
    Snapshot,
)
from service.clients.settings import ClientSettings
from service.downloads.status import LOOK_SUBJECT
from service.monitor.mirror import Mirror
from service.monitor.restarts import Restarts
from service.monitor.stall_clock import StallClock
from service.runtime import metrics
from service.runtime.bus import Bus
from service.runtime.database import AWAY
from service.runtime.redact import without_secrets
from service.runtime.settings import MonitorSettings, NatsSettings
from service.runtime.streams import download_status, ensure_streams

log: Final = logging.getLogger("mediabus.monitor")

WRITTEN_AT_ONCE: Final = 64
LOAD_GOES_ON_WITHIN: Final = 10.0
NOT_JSON: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
CREDENTIALS_PAUSE: Final = 60.0
"""Seconds between tries with credentials that were refused: clients ban those who try often."""

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
"""Answers which items a client should still have."""


class Watcher:
    """One client's watcher. It remembers nothing that the bucket and the client do not know."""

    def __init__(
        self,
        bus: Bus,
        settings: ClientSettings,
        monitor: MonitorSettings,
        nats: NatsSettings,
        expected: Expected,
    ) -> None:
        self._bus = bus
        self._settings = settings
        self._name = settings.client_name
        self._unreachable_after = monitor.unreachable_after
        self._nats = nats
        self._expected = expected
        self._mirror = Mirror(monitor.removed_after)
        self._clock = StallClock(step=min(monitor.stalled_after, 60.0))
        self._restarts = Restarts()
        self._status: ClientStatus | None = None
        self._away_since: datetime.datetime | None = None
        self._away_at = 0.0  # the same, by a clock that nobody sets
        self.has_looked = asyncio.Event()  # and the bucket shows what was seen
        self._look = asyncio.Event()

    async def run(self) -> None:
        """Watches for ever."""
        subject = f"{LOOK_SUBJECT}.{self._name}"
        subscription = await self._bus.nc.subscribe(subject, cb=self._look_soon)
        try:
            async with self._settings.connect() as client:
                await self._until_done(self._load)
                while True:
                    pause = await self.poll(client)
                    self._look.clear()
                    with contextlib.suppress(TimeoutError):
                        await asyncio.wait_for(self._look.wait(), timeout=pause)
        finally:
            with contextlib.suppress(NatsError):
                await subscription.unsubscribe()

    async def _look_soon(self, _: object) -> None:
        if self._away_since is None:  # else it would shorten the pause between logins
            self._look.set()

    async def poll(self, client: DownloadClient) -> float:
        """Looks once, writes what changed, and answers in how many seconds to look again."""
        try:
            is_back = self._away_since is not None or not self.has_looked.is_set()
            version = await client.version() if is_back else None
            # What was observed once is not observed again: nothing may come between.
            self._take(await client.observe())
        except (ClientUnavailable, ClientRefused) as error:
            return await self._does_not_answer(error)
        self._away_since = None
        if version is not None:
            await self._answers(version)
        with contextlib.suppress(*AWAY):  # then it is known at the next look
            self._mirror.expect(await self._expected(self._name))
        await self._until_done(self._write)
        self.has_looked.set()
        return self._pause()

    def _take(self, seen: Observation) -> None:
        now = asyncio.get_running_loop().time()
        self._mirror.take(seen, now)
        if isinstance(seen, Snapshot) and seen.restarted:
            log.info("client was restarted", extra={"client": self._name})
            self._restarts.was_restarted(now)
        self._mirror.amend(self._clock.look(self._mirror.shown(), now))
        self._mirror.amend(self._restarts.look(self._mirror.shown(), now))

    def _pause(self) -> float:
        busy = any(status.phase in BUSY for status in self._mirror.shown())
        soon = busy or self._mirror.is_waiting()
        return self._settings.poll_active if soon else self._settings.poll_idle

    async def _answers(self, version: str) -> None:
        metrics.CLIENT_REACHABLE.labels(self._name).set(1)
        log.info("client answers", extra={"client": self._name, "version": version})
        said = self._status if self._status and self._status.reachable else None
        if said is None or said.version != version:
            await self._say(reachable=True, since=said.since if said else _now(), version=version)

    async def _does_not_answer(self, error: ClientUnavailable | ClientRefused) -> float:
        """Says so once it has lasted; a short outage is nobody's news."""
        self._clock.was_away()
        reason = error.reason if isinstance(error, ClientUnavailable) else "protocol"
        now = asyncio.get_running_loop().time()
        if self._away_since is None:
            self._away_since, self._away_at = _now(), now
            metrics.CLIENT_REACHABLE.labels(self._name).set(0)
            log.warning("client does not answer: %s", error, extra={"client": self._name})
        lasted = now - self._away_at
        told = self._status is not None and not self._status.reachable
        if lasted >= self._unreachable_after and not told:
            await self._say(
                reachable=False, since=self._away_since, reason=reason, message=str(error)
            )
        if reason in {"authentication", "banned"}:
            return (
                CREDENTIALS_PAUSE if lasted >= self._unreachable_after else self._unreachable_after
            )
        return min(self._settings.poll_active, max(self._unreachable_after - lasted, 0.05))

    async def _say(self, **facts: object) -> None:
        self._status = msgspec.convert(
            {"client": self._name, "kind": kind_of(self._settings), **facts}, ClientStatus
        )
        await self._until_done(self._write_client)

    async def _write_client(self, bucket: KeyValue) -> None:
        await bucket.put(self._name, msgspec.json.encode(self._status))

    async def _load(self, bucket: KeyValue) -> None:
        """Starts from what the bucket holds of this client."""
        statuses: dict[ItemId, DownloadStatus | None] = {}
        watch = await bucket.watch(f"{self._name}.*")
        try:
            # Not for ever: a watch under way when its server dies may say no more.
            while entry := await watch.updates(LOAD_GOES_ON_WITHIN):  # type: ignore[no-untyped-call]
                named = item_of_key(entry.key)
                if named and entry.operation not in {KV_DEL, KV_PURGE}:
                    statuses[named[1]] = _status(entry.value)
        finally:
            await watch.stop()  # type: ignore[no-untyped-call]
        written = {item: status for item, status in statuses.items() if status is not None}
        self._mirror.start_with(written)
        self._mirror.expect(statuses.keys() - written.keys())  # written anew, or taken away
        self._clock.start_with(written.values())
        self._restarts.start_with(written.values())
        with contextlib.suppress(KeyNotFoundError, *NOT_JSON):
            entry = await bucket.get(self._name)
            self._status = msgspec.json.decode(entry.value or b"", type=ClientStatus)

    async def _write(self, bucket: KeyValue) -> None:
        statuses = self._mirror.to_write()
        for start in range(0, len(statuses), WRITTEN_AT_ONCE):
            window = statuses[start : start + WRITTEN_AT_ONCE]
            await asyncio.gather(*(self._put(bucket, status) for status in window))
        for item in self._mirror.to_delete():
            await bucket.delete(status_key(self._name, item))
            self._mirror.deleted(item)

    async def _put(self, bucket: KeyValue, status: DownloadStatus) -> None:
        await bucket.put(status_key(self._name, status.item), msgspec.json.encode(plain(status)))
        metrics.STATUS_WRITTEN.labels(self._name).inc()
        self._mirror.wrote(status)

    async def _until_done(self, work: Callable[[KeyValue], Awaitable[None]]) -> None:
        """Works on the bucket until that has succeeded. A bucket that vanished with its server's
        disk is made anew and written in full."""
        while True:
            try:
                await work(await download_status(self._bus))
            except BucketNotFoundError:
                await ensure_streams(self._bus, self._nats)
                self._mirror.start_with({})
                if self._status is not None:
                    await self._until_done(self._write_client)
            except (NatsError, APIError, TimeoutError) as error:
                log.warning("status waits for NATS: %s", error or type(error).__name__)
                await asyncio.sleep(0.5)
            else:
                return


def _status(value: bytes | None) -> DownloadStatus | None:
    """None for what is no status: anybody may write into the bucket."""
    try:
        return msgspec.json.decode(value or b"", type=DownloadStatus)
    except NOT_JSON:
        log.warning("the bucket holds what is no status", extra={"value": repr(value)[:200]})
        return None


def kind_of(settings: ClientSettings) -> str:
    """The ``kind`` of the settings, such as ``qbittorrent``."""
    return str(type(settings).__struct_config__.tag)


def plain(status: DownloadStatus) -> DownloadStatus:
    """The status with texts that PostgreSQL takes, whatever a client calls its downloads, and that
    hold no key: some are called by the URL that they came from until their name is known."""
    texts = {
        name: cleaned
        for name in ("title", "save_path", "category", "message", "warning")
        if (value := getattr(status, name)) and (cleaned := _plain_text(value)) != value
    }
    if not (texts.get("title") or status.title).strip():
        texts["title"] = status.item
    return msgspec.structs.replace(status, **texts) if texts else status


def _plain_text(value: str) -> str:
    text = value.replace("\0", "\N{REPLACEMENT CHARACTER}")
    return without_secrets(text) if "://" in text or "magnet:" in text else text


def _now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC)
