"""Poll aria2: its unfinished downloads in every poll, all of them if its counters changed."""

import dataclasses
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from mediabus.schemas.status import ClientName, DownloadStatus, ItemId
from mediabus.service.clients.aria2.rpc import Fault, Rpc
from mediabus.service.clients.aria2.states import (
    KEYS,
    Download,
    File,
    GlobalStat,
    SessionInfo,
    led_to,
    name_of,
    newest,
    status_of,
)
from mediabus.service.clients.port import Delta, Observation, Snapshot

ALL: Final = 1_000_000
"""A page size above the number of downloads."""

FULL_POLL_EVERY: Final = 30.0
"""Seconds between full polls, for changes that aria2's counters do not show."""

WATCHED: Final = 100
"""Waiting downloads in every poll: no counter shows that one of them was paused."""

LISTS: Final = (("tellStopped", 0, ALL, KEYS), ("tellWaiting", 0, ALL, KEYS), ("tellActive", KEYS))
"""Calls that list all downloads, the active ones last."""


@dataclasses.dataclass
class _Observed:
    """The last observation of one run of aria2. ``at`` is the time of the last full poll."""

    session: SessionInfo
    stat: GlobalStat
    at: float
    active: frozenset[str] = frozenset()
    statuses: dict[ItemId, DownloadStatus] = dataclasses.field(default_factory=dict)


class Observer:
    """The observations of one aria2, each compared with the one before."""

    def __init__(self, rpc: Rpc, client: ClientName) -> None:
        self._rpc = rpc
        self._client = client
        self._observed: _Observed | None = None
        self._run: SessionInfo | None = None  # the run that answered last
        self._led: dict[str, tuple[ItemId, ...]] = {}  # by gid, the ids of its predecessors
        self._names: dict[str, str] = {}  # by gid, of downloads without a torrent's name

    async def observe(self) -> Observation:
        """Poll what changed, or everything after an outage, a restart or 30 s."""
        observed = self._take_observed()
        now = time.monotonic()
        if observed and now - observed.at < FULL_POLL_EVERY:
            delta = await self._unfinished(observed)
            if delta:
                self._observed = observed
                return delta
        return await self._everything(observed, now)

    def _take_observed(self) -> _Observed | None:
        """Return the last observation and reset it: after a failed poll, the next is a full one."""
        observed = self._observed
        self._observed = None
        return observed

    async def _unfinished(self, seen: _Observed) -> Delta | None:
        """Poll the unfinished downloads. None if others changed too, so that a full poll is due."""
        session, stat, some_waiting, all_active = await self._rpc.ask_many(
            ("getSessionInfo",),
            ("getGlobalStat",),
            ("tellWaiting", 0, WATCHED, KEYS),
            ("tellActive", KEYS),
        )
        waiting = self._rpc.understood(some_waiting, list[Download])
        active = self._rpc.understood(all_active, list[Download])
        if (
            self._rpc.understood(session, SessionInfo) != seen.session
            or self._rpc.understood(stat, GlobalStat) != seen.stat
            or frozenset(download.gid for download in active) != seen.active
        ):
            return None
        statuses = await self._statuses([*waiting, *active])
        changed = _changed(seen.statuses, statuses)
        seen.statuses |= statuses
        return Delta(changed, [])

    async def _everything(self, seen: _Observed | None, now: float) -> Observation:
        observed = await self._polled(now)
        last_run = self._run
        self._run = observed.session
        self._observed = observed
        if seen is None or seen.session != observed.session:
            restarted = last_run not in (None, observed.session)
            return Snapshot(list(observed.statuses.values()), restarted)
        removed = [item for item in seen.statuses if item not in observed.statuses]
        return Delta(_changed(seen.statuses, observed.statuses), removed)

    async def _polled(self, now: float) -> _Observed:
        session, stat, *lists = await self._rpc.ask_many(
            ("getSessionInfo",), ("getGlobalStat",), *LISTS
        )
        stopped, waiting, active = (self._rpc.understood(some, list[Download]) for some in lists)
        everything = [*stopped, *waiting, *active]
        self._remember(everything)
        return _Observed(
            self._rpc.understood(session, SessionInfo),
            self._rpc.understood(stat, GlobalStat),
            now,
            frozenset(download.gid for download in active),
            await self._statuses(everything),
        )

    def _remember(self, everything: Sequence[Download]) -> None:
        """Note the predecessors of each download. Forget downloads that aria2 no longer has."""
        gids = {download.gid for download in everything}
        self._names = {gid: name for gid, name in self._names.items() if gid in gids}
        led = self._led | led_to(everything)
        self._led = {gid: items for gid, items in led.items() if gid in gids}

    async def _statuses(self, downloads: Sequence[Download]) -> dict[ItemId, DownloadStatus]:
        ones = newest(downloads)
        names = await self.names_of(ones.values())
        client = self._client
        return {
            item: status_of(client, it, names[it.gid], self._led.get(it.gid, ()))
            for item, it in ones.items()
        }

    async def names_of(self, downloads: Iterable[Download]) -> dict[str, str]:
        """Return the names by gid: the torrent's, else that of its first file, else the gid."""
        names = {}
        unknown = []
        for download in downloads:
            name = download.info.name if download.info else self._names.get(download.gid)
            if name is None:
                unknown.append(download.gid)
            names[download.gid] = name or download.gid
        return names | await self.__names_of_files(unknown)

    async def __names_of_files(self, gids: Sequence[str]) -> dict[str, str]:
        """Return names from the first files. Each is remembered once aria2 knows the path."""
        names = {}
        answers = await self._rpc.ask_many(*(("getFiles", gid) for gid in gids))
        for gid, answer in zip(gids, answers, strict=True):
            is_removed = isinstance(answer, Fault)
            files = [] if is_removed else self._rpc.understood(answer, list[File])
            names[gid] = name_of(files) or gid
            if any(file.path for file in files):
                self._names[gid] = names[gid]
        return names


def _changed(
    before: Mapping[ItemId, DownloadStatus], after: Mapping[ItemId, DownloadStatus]
) -> list[DownloadStatus]:
    """Return the statuses that are new or differ."""
    return [status for item, status in after.items() if status != before.get(item)]
