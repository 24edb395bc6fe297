"""A session with Deluge: poll its torrents, process pushed events, and send commands."""

import asyncio
import base64
import contextlib
import dataclasses
import time
from collections.abc import AsyncIterator, Mapping
from typing import Final

import msgspec

from mediabus.schemas.status import DownloadStatus, ItemId, Phase
from mediabus.service.clients.category import checked_category
from mediabus.service.clients.deluge.rencode import Value
from mediabus.service.clients.deluge.rpc import ADMINISTRATOR, Rpc, address, understood
from mediabus.service.clients.deluge.states import KEYS, Torrent, label_of, phase_of, status_of
from mediabus.service.clients.deluge.wire import Disconnected, RpcError, Wire
from mediabus.service.clients.limits import MAX_DOWNLOADS
from mediabus.service.clients.port import (
    ClientRefused,
    Delta,
    DownloadClient,
    Magnet,
    Observation,
    Snapshot,
    Source,
    TorrentFile,
)
from mediabus.service.clients.sane import is_item_id
from mediabus.service.clients.settings import ClientSettings
from mediabus.service.clients.sources import (
    already_present,
    infohashes,
    one_torrent,
    refused_torrent,
    torrent_for,
)

UNCHANGING: Final = frozenset({Phase.QUEUED, Phase.PAUSED, Phase.COMPLETED, Phase.FAILED})
"""Phases that change only with an event. Their torrents are not part of every poll."""

FULL_POLL_EVERY: Final = 30.0
"""Seconds between full polls, for changes without an event: uploads, names, failures at start."""

LOADING: Final = 0.5
"""Seconds to wait after a start. Deluge omits torrents that it is loading for up to 0.2 s."""

LAGGING: Final = 2.0
"""Seconds after an event in which Deluge can still report old values.

Its counters lag by up to 1.5 s, and that a torrent is finished by 0.3 s. A torrent that was just
added is reported as paused although it starts.
"""

STARTING: Final = 1.0
"""Seconds in which a torrent that was added starts, or fails for good."""

FRESH_AT_ONCE: Final = 10
"""Torrents without metadata that a poll requests one by one."""

SESSION_STARTED: Final = "SessionStartedEvent"
ADDED: Final = "TorrentAddedEvent"
EVENTS: Final = (
    SESSION_STARTED,
    ADDED,
    "TorrentFinishedEvent",
    "TorrentFolderRenamedEvent",
    "TorrentRemovedEvent",
    "TorrentResumedEvent",
    "TorrentStateChangedEvent",
    "TorrentStorageMovedEvent",
)


class DelugeSettings(ClientSettings, frozen=True, kw_only=True, tag="deluge"):
    """The settings of a Deluge client.

    ``url`` is the address of the daemon, ``deluge://host:58846``, not of the web page. ``username``
    and ``password`` are in the file ``auth`` of its configuration. Its certificate is self-signed
    and not verified: over an untrusted network, use a tunnel.
    """

    protocol = "torrent"

    def __post_init__(self) -> None:
        ClientSettings.__post_init__(self)
        address(self.url)

    @contextlib.asynccontextmanager
    async def connect(self) -> AsyncIterator[DownloadClient]:
        client = Deluge(self)
        try:
            yield client
        finally:
            await client.close()


@dataclasses.dataclass
class _Seen:
    """The statuses seen over one connection, and the time of the last full poll."""

    wire: Wire
    at: float
    statuses: dict[ItemId, DownloadStatus]


class Deluge:
    """A session with one Deluge. Implements ``DownloadClient``."""

    def __init__(self, settings: DelugeSettings) -> None:
        self._settings = settings
        self._rpc = Rpc(settings, EVENTS, self._on_event)
        self._observing = asyncio.Lock()
        self._seen: _Seen | None = None
        self._wire: Wire | None = None  # the connection of the last poll
        self._touched: dict[ItemId, float] = {}  # items of recent events, and when
        self._added: dict[ItemId, float] = {}  # added items not seen to have started, and when
        self._fresh_ones: dict[str, Torrent] = {}  # as libtorrent reported them
        self._asked_fresh = 0  # requests for single torrents
        self._free: dict[str, int] = {}  # bytes, by folder of active downloads
        self._started_at = 0.0
        self._started = asyncio.Event()  # set once all torrents are loaded

    async def close(self) -> None:
        """End the connection."""
        await self._rpc.close()

    def _on_event(self, name: str, args: tuple[Value, ...]) -> None:
        if name == SESSION_STARTED:
            self._started_at = time.monotonic()
            self._started.set()
        elif args and len(self._touched) < MAX_DOWNLOADS and is_item_id(args[0]):
            item = ItemId(str(args[0]).lower())
            self._touched[item] = time.monotonic()
            if name == ADDED and args[1:] == (False,):  # True: loaded from its disk
                self._added[item] = self._touched[item]

    async def version(self) -> str:
        # In "2.2.1.dev0+20260307", the part after the plus comes from the packager.
        return str(await self._rpc.call("daemon.info")).partition("+")[0]

    async def observe(self) -> Observation:
        async with self._observing:
            seen = self._seen
            self._seen = None  # if this poll fails, the next one is a full one
            try:
                return await self._poll(seen)
            except Disconnected:  # it may have been restarted since
                return await self._poll(None)

    async def _poll(self, seen: _Seen | None) -> Observation:
        wire = await self._loaded()
        if seen is None or seen.wire is not wire:
            seen = _Seen(wire, time.monotonic(), await self._everything(wire))
            # A restart ends the connection; so does a network outage.
            restarted = self._wire not in (None, wire)
            observation: Observation = Snapshot(list(seen.statuses.values()), restarted)
        else:
            observation = await self._changes(seen)
        self._seen, self._wire = seen, wire
        return observation

    async def _changes(self, seen: _Seen) -> Delta:
        """Return what changed since the last poll.

        Deluge's own ``diff`` is not used: it compares with its answer to the latest caller, and so
        loses changes if two programs poll at the same time.
        """
        known = seen.statuses
        if self._is_full_poll_due(seen):
            seen.at = time.monotonic()
            asked, now = set(known), await self._everything(seen.wire)
        else:
            busy = {item for item, was in known.items() if was.phase not in UNCHANGING}
            asked = busy | self._added.keys() | self._lately_touched()
            now = await self._asked_for(seen.wire, {"id": sorted(asked)}) if asked else {}
        gone = [item for item in asked - now.keys() if item in known]
        changed = [status for item, status in now.items() if status != known.get(item)]
        for item in gone:
            del known[item]
        known |= now
        return Delta(changed, gone)

    def _is_full_poll_due(self, seen: _Seen) -> bool:
        """Return whether a full poll is due: periodically, and for an unknown torrent.

        An unknown torrent can belong to another account. A request by id would return it although
        the list for this account does not.
        """
        if seen.wire.level < ADMINISTRATOR and self._touched.keys() - seen.statuses.keys():
            return True
        return time.monotonic() - seen.at > FULL_POLL_EVERY

    def _lately_touched(self) -> set[ItemId]:
        """Return the items of recent events, also of those whose changes may not show yet."""
        touched, now = set(self._touched), time.monotonic()
        self._touched = {item: at for item, at in self._touched.items() if now - at < LAGGING}
        return touched

    async def _everything(self, wire: Wire) -> dict[ItemId, DownloadStatus]:
        self._lately_touched()
        everything = await self._asked_for(wire, {})
        fresh = {item: it for item, it in self._fresh_ones.items() if item.lower() in everything}
        self._fresh_ones = fresh
        busy = [status for status in everything.values() if status.phase is Phase.DOWNLOADING]
        for folder in {status.save_path for status in busy if status.save_path}:
            with contextlib.suppress(RpcError):  # the folder does not exist yet
                free = await self._rpc.ask(wire, "core.get_free_space", folder)
                self._free[folder] = understood(free, int)
        return everything

    async def _asked_for(
        self, wire: Wire, which: dict[str, list[ItemId]]
    ) -> dict[ItemId, DownloadStatus]:
        answer = await self._rpc.ask(wire, "core.get_torrents_status", which, KEYS)
        listed = understood(answer, dict[str, object])
        torrents = {item: understood(it, Torrent) for item, it in listed.items()}
        torrents |= await self._fresh(wire, torrents)
        return {ItemId(item.lower()): self._status(item, it) for item, it in torrents.items()}

    async def _fresh(self, wire: Wire, torrents: Mapping[str, Torrent]) -> dict[str, Torrent]:
        """Request some of the torrents without metadata directly from libtorrent.

        Once a hybrid torrent added by its v1 infohash has its metadata, libtorrent uses another id,
        under which Deluge's list does not update. It can be reported as paused, as every torrent is
        before it starts.
        """
        seeking = [item for item, it in torrents.items() if _lacks_metadata(it)]
        start = self._asked_fresh % len(seeking) if seeking else 0
        due = (seeking[start:] + seeking[:start])[:FRESH_AT_ONCE]
        self._asked_fresh += len(due)
        for item in due:
            answer = await self._rpc.ask(wire, "core.get_torrent_status", item, KEYS)
            if answer:  # else it was removed meanwhile
                self._fresh_ones[item] = understood(answer, Torrent)
        return {item: it for item, it in self._fresh_ones.items() if item in seeking}

    def _status(self, item: str, torrent: Torrent) -> DownloadStatus:
        """Return a status. A new torrent is queued until it starts, although Deluge says paused."""
        free = self._free.get(torrent.download_location)
        status = status_of(self._settings.client_name, item, torrent, free)
        added = self._added.get(status.item)
        if added is None:
            return status
        if status.phase is Phase.PAUSED and time.monotonic() - added < LAGGING:
            return msgspec.structs.replace(status, phase=Phase.QUEUED)
        del self._added[status.item]
        return status

    async def add(
        self,
        source: Source,
        *,
        title: str,  # noqa: ARG002 - a torrent contains its name
        category: str | None,
    ) -> ItemId:
        source = torrent_for("Deluge", source)
        category = checked_category("Deluge", category)
        for item in infohashes(source):
            if present := await self._record(item):
                raise already_present("Deluge", present["name"])
        try:
            added = await self._hand_over(source)
        except RpcError as error:
            raise refused_torrent(error) from error
        item = ItemId(added.lower())
        if category:
            await self._label(item, label_of(category))
        with contextlib.suppress(RpcError):  # removed meanwhile
            await self._must_start(item)
        return item

    async def _must_start(self, item: ItemId) -> None:
        """Resume an added torrent that Deluge left paused after an error.

        Deluge resumes each torrent that it adds. If libtorrent reports an error just before, such
        as a directory that is not writable, that clears the error: the torrent stays paused without
        a reason. The second resume makes libtorrent report the error again.
        """
        if await self._rpc.call("core.get_config_value", "add_paused"):
            return
        deadline = time.monotonic() + STARTING
        while (state := await self._state(item)) in {"Paused", "Error"}:
            if time.monotonic() > deadline:
                break
            await asyncio.sleep(STARTING / 10)
        if state == "Paused":
            await self._rpc.call("core.resume_torrent", item)

    async def _state(self, item: ItemId) -> object:
        record = await self._record(item)
        return record.get("state")

    async def _hand_over(self, source: Magnet | TorrentFile) -> str:
        if isinstance(source, Magnet):
            method, args = "core.add_torrent_magnet", [source.uri]
        else:
            file = base64.b64encode(source.content).decode()
            # Deluge uses this name if its settings make it keep copies of torrent files.
            method, args = "core.add_torrent_file", [f"{infohashes(source)[0]}.torrent", file]
        added = await self._rpc.call(method, *args, {}, repeatable=False)
        if not isinstance(added, str):
            raise RpcError("", "no id for the added torrent")
        return added

    async def _label(self, item: ItemId, label: str) -> None:
        """Set the label of a torrent, unless the Label plugin is disabled."""
        plugins = await self._rpc.call("core.get_enabled_plugins")
        if not isinstance(plugins, tuple) or "Label" not in plugins:
            return
        with contextlib.suppress(RpcError):  # it exists already
            await self._rpc.call("label.add", label)
        with contextlib.suppress(RpcError):  # removed meanwhile
            await self._rpc.call("label.set_torrent", item, label)

    async def pause(self, item: ItemId) -> None:
        await self._must_have(item)
        try:
            async with asyncio.timeout(self._settings.timeout):
                await self._stop(item)
        except TimeoutError as error:
            raise ClientRefused("Deluge did not pause this download in time: try again") from error
        self._added.pop(item, None)

    async def _stop(self, item: ItemId) -> None:
        """Pause until both the flag and the state of the torrent say that it is paused.

        Deluge ignores a pause just after the start of a torrent that it still considers paused.
        """
        while True:
            await self._rpc.call("core.pause_torrent", item)
            record = await self._record(item)
            if not record or record["state"] == "Error":
                return
            if record["paused"] and record["state"] in ("Paused", "Moving"):
                return
            await asyncio.sleep(0.05)

    async def resume(self, item: ItemId) -> None:
        await self._must_have(item)
        await self._rpc.call("core.resume_torrent", item)

    async def remove(self, item: ItemId, *, delete_files: bool) -> None:
        if not await self._record(item):
            return
        try:
            await self._rpc.call("core.remove_torrent", item, delete_files)
        except RpcError:
            if await self._record(item):  # not removed meanwhile
                raise

    async def _must_have(self, item: ItemId) -> None:
        if not await self._record(item):
            raise ClientRefused(f"Deluge has no download {item}")

    async def _record(self, item: ItemId) -> dict[str, object]:
        """Return the name and state of a torrent directly from libtorrent.

        Deluge's list can be out of date. Returns an empty dict if there is no such torrent, after
        waiting until Deluge has loaded its torrents.
        """
        for wait in (False, True):
            if wait:
                await self._loaded()
            answer = await self._rpc.call(
                "core.get_torrent_status", one_torrent("Deluge", item), ["name", "state", "paused"]
            )
            if record := understood(answer, dict[str, object]):
                return record
        return {}

    async def _loaded(self) -> Wire:
        """Return the connection. Wait until a Deluge that just started has loaded its torrents."""
        wire = await self._rpc.wire()
        left = wire.since + LOADING - time.monotonic()
        if left > 0 and self._started_at < wire.since:  # else the event came during the login
            self._started.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(left):
                    await self._started.wait()
        return wire


def _lacks_metadata(torrent: Torrent) -> bool:
    return not torrent.total_size and phase_of(torrent) in (Phase.METADATA, Phase.PAUSED)
