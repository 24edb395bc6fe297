"""Write what one download client reports to the bucket ``download_status``.

Every write is retried until it succeeds. A bucket that was lost with the disk of its server is
created again by another part of mediabus, and then written in full.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Final

import msgspec
from nats.errors import Error as NatsError
from nats.errors import MaxPayloadError
from nats.js.errors import APIError, BucketNotFoundError, InvalidKeyError
from nats.js.kv import KeyValue

from mediabus.runtime import metrics
from mediabus.runtime.error_text import error_text
from mediabus.runtime.nats.bus import Bus
from mediabus.runtime.nats.streams import download_status, wait_for_streams
from mediabus.schemas.decoding import NOT_JSON
from mediabus.schemas.status import ClientName, ClientStatus, DownloadStatus, ItemId
from mediabus.schemas.subjects import status_key
from mediabus.service.clients.guard import words_of
from mediabus.service.downloads import bucket
from mediabus.service.monitor.watch.mirror import Mirror

log: Final = logging.getLogger("mediabus.monitor")

CONCURRENT_WRITES: Final = 64
RETRY_EVERY: Final = 0.5


class StatusWriter:
    """Writes the changes of a mirror, and the status of its client."""

    def __init__(self, bus: Bus, client: ClientName, mirror: Mirror) -> None:
        self._bus = bus
        self._client = client
        self._mirror = mirror
        self.client_status: ClientStatus | None = None

    async def load(self) -> list[DownloadStatus]:
        """Start the mirror with the statuses in the bucket, and return them."""
        written: list[DownloadStatus] = []

        async def read(store: KeyValue) -> None:
            written[:] = await self._read(store)

        await self._until_done(read)
        return written

    async def _read(self, store: KeyValue) -> list[DownloadStatus]:
        values = await bucket.values_of(self._bus, self._client)
        statuses = {item: _decoded(value) for item, value in values.items()}
        written = {item: status for item, status in statuses.items() if status is not None}
        self._mirror.start_with(written)
        self._mirror.expect(statuses.keys() - written.keys())  # written again, or deleted
        found = await bucket.client_status(store, self._client)
        self.client_status = found or self.client_status
        return list(written.values())

    async def write_client(self, status: ClientStatus) -> None:
        """Write the status of the client."""
        self.client_status = status
        await self._until_done(self._write_client)

    async def write_downloads(self) -> None:
        """Write the changes of the mirror."""
        await self._until_done(self._write_downloads)

    async def _write_client(self, store: KeyValue) -> None:
        if self.client_status is not None:
            await bucket.put_client(store, self.client_status)

    async def _write_downloads(self, store: KeyValue) -> None:
        statuses = self._mirror.to_write()
        for start in range(0, len(statuses), CONCURRENT_WRITES):
            window = statuses[start : start + CONCURRENT_WRITES]
            await asyncio.gather(*(self._put(store, status) for status in window))
        for item in self._mirror.to_delete():
            await self._delete(store, item)

    async def _put(self, store: KeyValue, status: DownloadStatus) -> None:
        """Write a status. If it cannot be written, it is skipped and the others are written."""
        try:
            await bucket.put(store, status)
        except (ValueError, InvalidKeyError, MaxPayloadError) as error:
            metrics.DOWNLOADS_SKIPPED.labels(self._client).inc()
            key = status_key(self._client, status.item)
            log.warning("status not written", extra={"key": key, "reason": words_of(error)})
        else:
            metrics.STATUS_WRITTEN.labels(self._client).inc()
        self._mirror.wrote(status)

    async def _delete(self, store: KeyValue, item: ItemId) -> None:
        await bucket.delete(store, self._client, item)
        self._mirror.deleted(item)

    async def _until_done(self, work: Callable[[KeyValue], Awaitable[None]]) -> None:
        """Retry work on the bucket until it succeeds."""
        while True:
            try:
                await work(await download_status(self._bus))
            except BucketNotFoundError:
                await wait_for_streams(self._bus)
                self._mirror.start_with({})
                await self._write_client_again()
            except (NatsError, APIError, TimeoutError) as error:
                log.warning("writing status failed, will retry: %s", error_text(error))
                await asyncio.sleep(RETRY_EVERY)
            else:
                return

    async def _write_client_again(self) -> None:
        if self.client_status is not None:
            await self.write_client(self.client_status)


def _decoded(value: bytes) -> DownloadStatus | None:
    """Decode a status; None if another program wrote an invalid value."""
    try:
        return msgspec.json.decode(value, type=DownloadStatus)
    except NOT_JSON:
        log.warning("invalid value in download_status", extra={"value": repr(value)[:200]})
        return None
