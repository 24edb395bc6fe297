"""The bucket ``download_status``: read, follow, write and purge what the download clients report.

It has one key per client, ``<client>``, and one per download, ``<client>.<item>``. Reading leaves
nothing behind in NATS: it needs no consumer.
"""

import asyncio
import contextlib
import dataclasses
from collections.abc import AsyncGenerator, Sequence
from typing import Final, NamedTuple

import msgspec
from nats.errors import Error as NatsError
from nats.js.errors import APIError, KeyNotFoundError
from nats.js.kv import KV_DEL, KV_OP, KV_PURGE, KeyValue

from mediabus.runtime.nats.bus import Bus
from mediabus.runtime.nats.stream_reader import Stored, stored_messages, waking
from mediabus.runtime.nats.streams import download_status
from mediabus.runtime.redact import without_secrets
from mediabus.schemas.status import ClientName, ClientStatus, DownloadStatus, ItemId
from mediabus.schemas.subjects import (
    DOWNLOAD_STATUS_STREAM,
    LOOK_SUBJECT,
    STATUS_SUBJECT,
    item_of_key,
    status_key,
)
from mediabus.service.clients.sane import sane
from mediabus.service.downloads.row import DownloadRow

READ_EVERY: Final = 0.5
"""Seconds after which the bucket is read again although no message arrived."""

RETRY_AFTER: Final = 0.5
"""Seconds after a lost connection."""

STATUS_WITHIN: Final = 1.0
"""Seconds to wait for the status in a reply: a reply without it is better than a late one."""

YEARS: Final = range(1970, 2200)
"""A time outside of them cannot be shown in every time zone."""

UNREADABLE: Final = (msgspec.MsgspecError, ValueError, RecursionError)
"""What decoding an invalid value raises. Other programs may write anything into the bucket."""


class Entry(NamedTuple):
    """The latest value of a key; None if it was deleted."""

    key: str
    value: bytes | None


async def entries(bus: Bus, keys: str = ">") -> AsyncGenerator[Entry | None]:
    """Yield the latest value of each key, then None, and then every change.

    Ends when a change may have been missed, for example when the connection is lost: start again.
    Raises NatsError, APIError and TimeoutError.
    """
    subjects = f"{STATUS_SUBJECT}{keys}"
    connection, after, is_complete = bus.connection, 0, False
    async with waking(bus, subjects) as woken:
        while bus.is_connected and bus.connection == connection:
            if (await bus.js.stream_info(DOWNLOAD_STATUS_STREAM)).state.last_seq < after:
                return  # the bucket was created again
            messages = stored_messages(bus, DOWNLOAD_STATUS_STREAM, subjects=subjects, after=after)
            async for message in messages:
                after = message.sequence
                yield _entry(message)
            if not is_complete:
                is_complete = True
                yield None
            await woken(READ_EVERY)


def _entry(message: Stored) -> Entry:
    is_deleted = message.headers.get(KV_OP) in {KV_DEL, KV_PURGE}
    return Entry(message.subject.removeprefix(STATUS_SUBJECT), None if is_deleted else message.data)


async def all_entries(bus: Bus, keys: str = ">", *, within: float = 10.0) -> dict[str, bytes]:
    """Return the latest value of each key that has one. Raises as ``entries``."""
    found: dict[str, bytes] = {}
    async with asyncio.timeout(within), contextlib.aclosing(entries(bus, keys)) as reading:
        async for entry in reading:
            if entry is None:
                return found
            if entry.value is not None:
                found[entry.key] = entry.value
    raise TimeoutError("connection to NATS lost while reading the bucket download_status")


@dataclasses.dataclass
class Shown:
    """The statuses of all clients and their downloads.

    ``unreadable`` has the keys with invalid values, and the reasons.
    """

    clients: dict[ClientName, ClientStatus] = dataclasses.field(default_factory=dict)
    downloads: dict[tuple[ClientName, ItemId], DownloadStatus] = dataclasses.field(
        default_factory=dict
    )
    unreadable: dict[str, str] = dataclasses.field(default_factory=dict)

    def apply(self, key: str, value: bytes | None) -> None:
        """Replace the value of a key; None deletes it."""
        self._delete(key)
        if value is None:
            return
        try:
            self._add(key, value)
        except UNREADABLE as error:
            self.unreadable[key] = str(error)[:200]

    def forget(self, client: ClientName) -> None:
        """Remove a client and its downloads."""
        self.clients.pop(client, None)
        self.downloads = {at: status for at, status in self.downloads.items() if at[0] != client}

    def _delete(self, key: str) -> None:
        named = item_of_key(key)
        self.unreadable.pop(key, None)
        if named is None:
            self.clients.pop(ClientName(key), None)
        else:
            self.downloads.pop(named, None)

    def _add(self, key: str, value: bytes) -> None:
        named = item_of_key(key)
        if named is None:
            client = msgspec.json.decode(value, type=ClientStatus)
            if client.client != key or client.since.year not in YEARS:
                raise ValueError("it is not the status of this client")
            self.clients[client.client] = client
        else:
            status = sane(msgspec.json.decode(value, type=DownloadStatus))
            if (status.client, status.item) != named:
                raise ValueError("it is not the status of this download")
            self.downloads[named] = status

    def replace_by(self, other: "Shown") -> None:
        """Replace all statuses by those of another."""
        self.clients, self.downloads = other.clients, other.downloads
        self.unreadable = other.unreadable


async def read(bus: Bus) -> Shown:
    """Return all current statuses. Raises as ``entries``."""
    shown = Shown()
    for key, value in (await all_entries(bus)).items():
        shown.apply(key, value)
    return shown


async def follow(bus: Bus, shown: Shown) -> AsyncGenerator[None]:
    """Keep ``shown`` up to date: yield when it is complete, and again after every change.

    Raises as ``entries`` until it is complete. Reconnects after a later outage.
    """
    has_begun = False
    while True:
        try:
            async with contextlib.aclosing(_follow_once(bus, shown)) as changes:
                async for _ in changes:
                    has_begun = True
                    yield
        except (NatsError, APIError, TimeoutError):
            if not has_begun:
                raise
        await asyncio.sleep(RETRY_AFTER)


async def _follow_once(bus: Bus, shown: Shown) -> AsyncGenerator[None]:
    fresh, is_complete = Shown(), False
    async with contextlib.aclosing(entries(bus)) as reading:
        async for entry in reading:
            if entry is None:
                is_complete = True
                shown.replace_by(fresh)
            else:
                (shown if is_complete else fresh).apply(*entry)
            if is_complete:
                yield


class Statuses:
    """The live statuses of rows. Without NATS, no status is known."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus

    async def of(self, row: DownloadRow) -> DownloadStatus | None:
        """Return the status of a download; None if it has none or NATS does not reply in time."""
        if row.client_item is None or not self._bus.is_connected:
            return None
        key = status_key(ClientName(row.client), ItemId(row.client_item))
        try:
            async with asyncio.timeout(STATUS_WITHIN):
                entry = await (await download_status(self._bus)).get(key)
            return sane(msgspec.json.decode(entry.value or b"", type=DownloadStatus))
        except (KeyNotFoundError, NatsError, APIError, TimeoutError):
            return None
        except UNREADABLE:
            return None

    async def of_all(self, rows: Sequence[DownloadRow]) -> list[DownloadStatus | None]:
        """Return the statuses of several downloads, as ``of``."""
        return list(await asyncio.gather(*(self.of(row) for row in rows)))

    async def look_soon(self, client: str) -> None:
        """Ask the monitor to poll a client soon, because an operation changed something there."""
        if self._bus.is_connected:
            await self._bus.nc.publish(f"{LOOK_SUBJECT}.{client}")


async def client_status(bucket: KeyValue, client: ClientName) -> ClientStatus | None:
    """Return the status of a client; None if it has none, or an invalid one."""
    try:
        entry = await bucket.get(client)
        return msgspec.json.decode(entry.value or b"", type=ClientStatus)
    except (KeyNotFoundError, *UNREADABLE):
        return None


async def values_of(bus: Bus, client: ClientName) -> dict[ItemId, bytes]:
    """Return the encoded statuses of a client's downloads. Raises as ``entries``."""
    values = await all_entries(bus, f"{client}.*")
    return {named[1]: value for key, value in values.items() if (named := item_of_key(key))}


async def put_client(bucket: KeyValue, status: ClientStatus) -> None:
    """Write the status of a client."""
    await bucket.put(status.client, msgspec.json.encode(status))


async def put(bucket: KeyValue, status: DownloadStatus) -> None:
    """Write the status of a download, cleaned by ``plain``."""
    key = status_key(status.client, status.item)
    await bucket.put(key, msgspec.json.encode(plain(status)))


async def delete(bucket: KeyValue, client: ClientName, item: ItemId) -> None:
    """Delete the status of a download. Followers see the deletion."""
    await bucket.delete(status_key(client, item))


async def client_names(bus: Bus) -> list[str]:
    """Return the names of the clients that have a status."""
    info = await bus.js.stream_info(DOWNLOAD_STATUS_STREAM, subjects_filter=f"{STATUS_SUBJECT}*")
    return [subject.removeprefix(STATUS_SUBJECT) for subject in info.state.subjects or {}]


async def purge(bus: Bus, client: str) -> None:
    """Purge the status of a client and those of its downloads, without deletion markers."""
    subject = f"{STATUS_SUBJECT}{client}"
    await bus.js.purge_stream(DOWNLOAD_STATUS_STREAM, subject=f"{subject}.*")
    await bus.js.purge_stream(DOWNLOAD_STATUS_STREAM, subject=subject)


def plain(status: DownloadStatus) -> DownloadStatus:
    """Return the status with texts that PostgreSQL accepts and that contain no secrets.

    Some clients name a download after its URL until they know its title.
    """
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
