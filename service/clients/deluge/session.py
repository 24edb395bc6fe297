"""A session with Deluge: what it is asked for, what it pushes, and what it is told to do."""

import asyncio
import base64
import contextlib
import dataclasses
import time
from collections.abc import AsyncIterator
from typing import Final

import msgspec

from schemas.status import DownloadStatus, ItemId, Phase
from service.clients.deluge.rencode import Value
from service.clients.deluge.rpc import ADMINISTRATOR, Rpc, address, understood
from service.clients.deluge.states import KEYS, Torrent, label_of, status_of
from service.clients.deluge.wire import Disconnected, RpcError, Wire
from service.clients.port import (
    ClientRefused,
    Delta,
    DownloadClient,
    Magnet,
    Observation,
    Snapshot,
    Source,
    TorrentFile,
)
from service.clients.settings import ClientSettings
from service.clients.sources import infohashes, one_torrent, torrent_for

AT_REST: Final = frozenset({Phase.QUEUED, Phase.PAUSED, Phase.COMPLETED, Phase.FAILED})
"""What changes no more, unless an event says so: not asked for at every look."""

WHOLE_LOOK: Final = 30.0
"""Seconds between looks at everything, for what no event tells: what is uploaded, new names,
failures at the start."""

SETTLING: Final = 0.5
"""Seconds. Deluge answers for up to 0.2 s after its start without the torrents that it is still
loading."""

LAGGING: Final = 2.0
"""Seconds after an event within which Deluge may still show older figures (up to 1.5 s), not yet
that it is finished (0.3 s), and a torrent just added as paused although it starts."""

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
    """``url`` is the daemon's, ``deluge://host:58846``, not that of the web page. ``username`` and
    ``password`` stand in the file ``auth`` of its configuration. Its certificate is one that it
    made itself and is not checked: over a network that you do not trust, use a tunnel."""

    protocol = "torrent"

    def __post_init__(self) -> None:
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
    """What was observed over one connection, and when everything was."""

    wire: Wire
    at: float
    statuses: dict[ItemId, DownloadStatus]


class Deluge:
    """A session with one Deluge, as ``DownloadClient`` says; made by its settings."""

    def __init__(self, settings: DelugeSettings) -> None:
        self._settings = settings
        self._rpc = Rpc(settings, EVENTS, self._on_event)
        self._observing = asyncio.Lock()
        self._seen: _Seen | None = None
        self._wire: Wire | None = None  # over which it was observed last
        self._touched: dict[ItemId, float] = {}  # what events named, and when
        self._added: dict[ItemId, float] = {}  # and not seen to be started yet
        self._free: dict[str, int] = {}  # bytes, where torrents that download are stored
        self._started = asyncio.Event()  # it has told that all its torrents are loaded

    async def close(self) -> None:
        """End the connection."""
        await self._rpc.close()

    def _on_event(self, name: str, args: tuple[Value, ...]) -> None:
        if name == SESSION_STARTED:
            self._started.set()
        elif args:
            item = ItemId(str(args[0]).lower())
            self._touched[item] = time.monotonic()
            if name == ADDED and args[1:] == (False,):  # True: loaded from its disk
                self._added[item] = self._touched[item]

    async def version(self) -> str:
        return str(await self._rpc.call("daemon.info"))

    async def observe(self) -> Observation:
        async with self._observing:
            # Until this answer is wholly understood, the next question is for everything again.
            seen, self._seen = self._seen, None
            try:
                return await self._look(seen)
            except Disconnected:  # it may have been restarted since
                return await self._look(None)

    async def _look(self, seen: _Seen | None) -> Observation:
        wire = await self._settled()
        if seen is None or seen.wire is not wire:
            seen = _Seen(wire, time.monotonic(), await self._everything(wire))
            # The connection outlives no restart; nor does it a network that was away.
            restarted = self._wire not in (None, wire)
            observation: Observation = Snapshot(list(seen.statuses.values()), restarted)
        else:
            observation = await self._changes(seen)
        self._seen, self._wire = seen, wire
        return observation

    async def _changes(self, seen: _Seen) -> Delta:
        """What is different now. Deluge's own ``diff`` is not used: it loses changes as soon as two
        programs ask at the same time, because it compares with what it told the latest caller."""
        known = seen.statuses
        if self._is_whole_look_due(seen):
            seen.at = time.monotonic()
            asked, now = set(known), await self._everything(seen.wire)
        else:
            busy = {item for item, was in known.items() if was.phase not in AT_REST}
            asked = busy | self._added.keys() | self._lately_touched()
            now = await self._asked_for(seen.wire, {"id": sorted(asked)}) if asked else {}
        gone = [item for item in asked - now.keys() if item in known]
        changed = [status for item, status in now.items() if status != known.get(item)]
        for item in gone:
            del known[item]
        known |= now
        return Delta(changed, gone)

    def _is_whole_look_due(self, seen: _Seen) -> bool:
        """After a while; and for what is new, if it may be the torrent of an account that ours does
        not see: asked by its id, Deluge would show it all the same."""
        if seen.wire.level < ADMINISTRATOR and self._touched.keys() - seen.statuses.keys():
            return True
        return time.monotonic() - seen.at > WHOLE_LOOK

    def _lately_touched(self) -> set[ItemId]:
        """What events named, until some time after them: this look may be too early."""
        touched, now = set(self._touched), time.monotonic()
        self._touched = {item: at for item, at in self._touched.items() if now - at < LAGGING}
        return touched

    async def _everything(self, wire: Wire) -> dict[ItemId, DownloadStatus]:
        self._lately_touched()
        all_there_is = await self._asked_for(wire, {})
        busy = [status for status in all_there_is.values() if status.phase is Phase.DOWNLOADING]
        for folder in {status.save_path for status in busy if status.save_path}:
            with contextlib.suppress(RpcError):  # it is not there yet
                free = await self._rpc.ask(wire, "core.get_free_space", folder)
                self._free[folder] = understood(free, int)
        return all_there_is

    async def _asked_for(
        self, wire: Wire, which: dict[str, list[ItemId]]
    ) -> dict[ItemId, DownloadStatus]:
        answer = await self._rpc.ask(wire, "core.get_torrents_status", which, KEYS)
        torrents = understood(answer, dict[str, Torrent])
        return {ItemId(item.lower()): self._status(item, it) for item, it in torrents.items()}

    def _status(self, item: str, torrent: Torrent) -> DownloadStatus:
        """Its status, but not yet paused while it is new: it is called so before it starts."""
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
        title: str,  # noqa: ARG002 - a torrent brings its own name
        category: str | None,
    ) -> ItemId:
        source = torrent_for("Deluge", source)
        for item in infohashes(source):
            if present := await self._record(item):
                raise ClientRefused(f"Deluge already has this download, as {present['name']!r}")
        try:
            added = await self._hand_over(source)
        except RpcError as error:
            raise ClientRefused(
                f"{error}: it cannot use this torrent file or magnet link"
            ) from error
        item = ItemId(added.lower())
        if category:
            await self._label(item, label_of(category))
        return item

    async def _hand_over(self, source: Magnet | TorrentFile) -> str:
        if isinstance(source, Magnet):
            method, args = "core.add_torrent_magnet", [source.uri]
        else:
            file = base64.b64encode(source.content).decode()
            # The name is that of the copy which Deluge keeps if it is told to keep copies.
            method, args = "core.add_torrent_file", [f"{infohashes(source)[0]}.torrent", file]
        added = await self._rpc.call(method, *args, {}, repeatable=False)
        if not isinstance(added, str):
            raise RpcError("", "nothing about why it did not add it")
        return added

    async def _label(self, item: ItemId, label: str) -> None:
        """Without the plugin there is no place for a category; the download is as welcome."""
        plugins = await self._rpc.call("core.get_enabled_plugins")
        if not isinstance(plugins, tuple) or "Label" not in plugins:
            return
        with contextlib.suppress(RpcError):  # it exists already
            await self._rpc.call("label.add", label)
        with contextlib.suppress(RpcError):  # removed by somebody in between
            await self._rpc.call("label.set_torrent", item, label)

    async def pause(self, item: ItemId) -> None:
        await self._must_have(item)
        try:
            async with asyncio.timeout(self._settings.timeout):
                await self._stop(item)
        except TimeoutError as error:
            raise ClientRefused("Deluge does not stop this download; try again later") from error
        self._added.pop(item, None)

    async def _stop(self, item: ItemId) -> None:
        """A pause just after the start is lost if Deluge still takes the torrent for paused: it
        counts when both its flag and its word say so."""
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
            if await self._record(item):  # it is not gone in between
                raise

    async def _must_have(self, item: ItemId) -> None:
        if not await self._record(item):
            raise ClientRefused(f"Deluge has no download {item}")

    async def _record(self, item: ItemId) -> dict[str, object]:
        """The torrent's name and state, fresh from libtorrent (which Deluge's list is not); empty
        if it has none such, once it has had the time to load what it has."""
        for settled in (False, True):
            if settled:
                await self._settled()
            answer = await self._rpc.call(
                "core.get_torrent_status", one_torrent("Deluge", item), ["name", "state", "paused"]
            )
            if record := understood(answer, dict[str, object]):
                return record
        return {}

    async def _settled(self) -> Wire:
        """The connection, once a Deluge that has just started has loaded its torrents."""
        wire = await self._rpc.wire()
        left = wire.since + SETTLING - time.monotonic()
        if left > 0:
            self._started.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(left):
                    await self._started.wait()
        return wire
