"""Reading what the download clients say of downloads right now: the bucket ``download_status``."""

import asyncio
from collections.abc import Sequence
from typing import Final

import msgspec
from nats.errors import Error as NatsError
from nats.js.errors import APIError, KeyNotFoundError

from schemas.status import ClientName, DownloadStatus, ItemId
from schemas.subjects import status_key
from service.downloads.row import DownloadRow
from service.runtime.bus import Bus
from service.runtime.streams import download_status

LOOK_SUBJECT: Final = "mediabus.monitor.look"
"""Core NATS, and the client's name: something is about to change there."""

PATIENCE: Final = 1.0
"""Seconds to wait for a status: it is worth having, not worth waiting for."""


class Statuses:
    """The live statuses; without NATS nothing is known."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus

    async def of(self, row: DownloadRow) -> DownloadStatus | None:
        """What the client says of a download; None where it says nothing or cannot be heard."""
        if row.client_item is None or not self._bus.is_connected:
            return None
        key = status_key(ClientName(row.client), ItemId(row.client_item))
        try:
            async with asyncio.timeout(PATIENCE):
                entry = await (await download_status(self._bus)).get(key)
            return msgspec.json.decode(entry.value or b"", type=DownloadStatus)
        except (KeyNotFoundError, NatsError, APIError, TimeoutError):
            return None
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):  # somebody else wrote it
            return None

    async def of_all(self, rows: Sequence[DownloadRow]) -> list[DownloadStatus | None]:
        """As ``of``, for many."""
        return list(await asyncio.gather(*(self.of(row) for row in rows)))

    async def look_soon(self, client: str) -> None:
        """Lets the monitor know that this client was just asked for something."""
        if self._bus.is_connected:
            await self._bus.nc.publish(f"{LOOK_SUBJECT}.{client}")
