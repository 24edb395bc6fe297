"""All that the bucket ``download_status`` shows, read once or followed."""

import contextlib
import dataclasses
from collections.abc import AsyncGenerator

import msgspec
from nats.js.kv import KV_DEL, KV_PURGE

from schemas.status import ClientName, ClientStatus, DownloadStatus, ItemId
from schemas.subjects import item_of_key
from service.runtime.bus import Bus
from service.runtime.streams import download_status


@dataclasses.dataclass
class Shown:
    """What the download clients say: of themselves, and of their downloads."""

    clients: dict[ClientName, ClientStatus] = dataclasses.field(default_factory=dict)
    downloads: dict[tuple[ClientName, ItemId], DownloadStatus] = dataclasses.field(
        default_factory=dict
    )

    def take(self, key: str, value: bytes | None) -> None:
        """Takes in a key's new value; None where it is gone."""
        named = item_of_key(key)
        if named is None and value is not None:
            self.clients[ClientName(key)] = msgspec.json.decode(value, type=ClientStatus)
        elif named is not None and value is not None:
            self.downloads[named] = msgspec.json.decode(value, type=DownloadStatus)
        elif named is not None:
            self.downloads.pop(named, None)


async def read(bus: Bus) -> Shown:
    """All that is shown now."""
    shown = Shown()
    async with contextlib.aclosing(follow(bus, shown)) as looks:
        await anext(looks)
    return shown


async def follow(bus: Bus, shown: Shown) -> AsyncGenerator[None]:
    """Keeps ``shown`` up to date: yields once it is complete, and again after every change."""
    is_complete = False
    watch = await (await download_status(bus)).watchall()
    try:
        async for entry in watch:
            if entry is None:
                is_complete = True
            else:
                is_gone = entry.operation in {KV_DEL, KV_PURGE}
                shown.take(entry.key, None if is_gone else entry.value)
            if is_complete:
                yield
    finally:
        await watch.stop()  # type: ignore[no-untyped-call]
