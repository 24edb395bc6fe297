"""A session with aria2: what it is asked for, and what it is told to do."""

import asyncio
import base64
import contextlib
import dataclasses
import re
import time
from collections.abc import AsyncIterator, Iterable, Sequence
from pathlib import Path
from typing import Final

from schemas.status import DownloadStatus, ItemId
from service.clients.aria2.rpc import Fault, Rpc, rpc_url
from service.clients.aria2.states import (
    DUPLICATE,
    KEYS,
    Download,
    File,
    GlobalStat,
    SessionInfo,
    Version,
    delete,
    name_of,
    newest,
    status_of,
)
from service.clients.http import HttpSettings, http_session
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
from service.clients.sources import infohashes, torrent_for

ALL: Final = 1_000_000
"""More downloads than there are."""

WHOLE_LOOK: Final = 30.0
"""Seconds between looks at everything, for what no number tells."""

WATCHED: Final = 100
"""Waiting downloads that are part of every look: no number tells that one of them is paused."""


class Aria2Settings(HttpSettings, frozen=True, kw_only=True, tag="aria2"):
    """``url`` is that of the host and port or of the RPC itself, ``password`` its ``rpc-secret``;
    there is no username. aria2 never deletes files: ``sees_files`` says that its paths lead to the
    same files here, and lets mediabus do it. It has no place for a category either."""

    protocol = "torrent"

    sees_files: bool = False

    @contextlib.asynccontextmanager
    async def connect(self) -> AsyncIterator[DownloadClient]:
        async with http_session(rpc_url(self.url), "aria2", self) as http:
            yield Aria2(Rpc(http, self.password), self)


@dataclasses.dataclass
class _Seen:
    """What was observed of one run of aria2, and when everything was."""

    session: SessionInfo
    stat: GlobalStat
    at: float
    active: frozenset[str] = frozenset()
    statuses: dict[ItemId, DownloadStatus] = dataclasses.field(default_factory=dict)


class Aria2:
    """A session with one aria2, as ``DownloadClient`` says; made by its settings."""

    def __init__(self, rpc: Rpc, settings: Aria2Settings) -> None:
        self._rpc = rpc
        self._settings = settings
        self._observing = asyncio.Lock()
        self._seen: _Seen | None = None
        self._run: SessionInfo | None = None  # that answered last
        self._names: dict[str, str] = {}  # by gid, of what is no torrent or has no metadata yet

    async def version(self) -> str:
        return (await self._rpc.ask(Version, "getVersion")).version

    async def observe(self) -> Observation:
        async with self._observing:
            # Until this answer is wholly understood, the next question is for everything again.
            seen, self._seen = self._seen, None
            now = time.monotonic()
            if seen and now - seen.at < WHOLE_LOOK:
                observation = await self._alive(seen)
                if observation:
                    self._seen = seen
                    return observation
            return await self._everything(seen, now)

    async def _alive(self, seen: _Seen) -> Delta | None:
        """What those do that are alive, or None if there is more to see."""
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
        changed = [it for item, it in statuses.items() if it != seen.statuses.get(item)]
        seen.statuses |= statuses
        return Delta(changed, [])

    async def _everything(self, seen: _Seen | None, now: float) -> Observation:
        session, stat, *lists = await self._rpc.ask_many(
            ("getSessionInfo",), ("getGlobalStat",), *LISTS
        )
        stopped, waiting, active = (self._rpc.understood(some, list[Download]) for some in lists)
        everything = [*stopped, *waiting, *active]
        there = {download.gid for download in everything}
        self._names = {gid: name for gid, name in self._names.items() if gid in there}
        looked = _Seen(
            self._rpc.understood(session, SessionInfo),
            self._rpc.understood(stat, GlobalStat),
            now,
            frozenset(download.gid for download in active),
            await self._statuses(everything),
        )
        run, self._seen, self._run = self._run, looked, looked.session
        if seen is None or seen.session != looked.session:
            restarted = run not in (None, looked.session)
            return Snapshot(list(looked.statuses.values()), restarted)
        return Delta(
            [it for item, it in looked.statuses.items() if it != seen.statuses.get(item)],
            [item for item in seen.statuses if item not in looked.statuses],
        )

    async def _statuses(self, downloads: Sequence[Download]) -> dict[ItemId, DownloadStatus]:
        ones = newest(downloads)
        names = await self._names_of(ones.values())
        client = self._settings.client_name
        return {item: status_of(client, it, names[it.gid]) for item, it in ones.items()}

    async def _names_of(self, downloads: Iterable[Download]) -> dict[str, str]:
        """By gid. What has no torrent's name is called after its first file, once that is known."""
        names = {it.gid: it.info.name if it.info else self._names.get(it.gid) for it in downloads}
        unknown = [gid for gid, name in names.items() if name is None]
        answers = await self._rpc.ask_many(*(("getFiles", gid) for gid in unknown))
        for gid, answer in zip(unknown, answers, strict=True):
            gone = isinstance(answer, Fault)
            files = [] if gone else self._rpc.understood(answer, list[File])
            names[gid] = name_of(files) or gid
            if any(file.path for file in files):
                self._names[gid] = names[gid] or ""
        return {gid: name or gid for gid, name in names.items()}

    async def add(
        self,
        source: Source,
        *,
        title: str,  # noqa: ARG002 - a torrent brings its own name
        category: str | None,  # noqa: ARG002 - aria2 has no place for one
    ) -> ItemId:
        source = torrent_for("aria2", source)
        for item in infohashes(source):
            await self._make_room(item)
        try:
            gid = await self._hand_over(source)
        except ClientRefused as error:
            raise ClientRefused(
                f"{error}: it cannot use this torrent file or magnet link"
            ) from error
        return await self._accepted(gid)

    async def _hand_over(self, source: Magnet | TorrentFile) -> str:
        """Its gid."""
        if isinstance(source, Magnet):
            return await self._rpc.ask(str, "addUri", [source.uri.strip()], repeatable=False)
        content = base64.b64encode(source.content).decode()
        return await self._rpc.ask(str, "addTorrent", content, repeatable=False)

    async def _make_room(self, item: ItemId) -> None:
        """ClientRefused if there is such a download, unless it has failed: aria2 cannot resume one
        that has, so it is begun anew."""
        present = await self._find(item)
        if present is None:
            return
        if present.status != "error":
            name = (await self._names_of([present]))[present.gid]
            raise ClientRefused(f"aria2 already has this download, as {name!r}")
        await self._forget(item)

    async def _accepted(self, gid: str) -> ItemId:
        """aria2 takes what it has already, and fails it at once."""
        download = await self._rpc.ask(Download, "tellStatus", gid, KEYS)
        if download.error_code == DUPLICATE:
            with contextlib.suppress(ClientRefused):
                await self._rpc.ask(str, "removeDownloadResult", gid)
            raise ClientRefused(f"aria2 already has this download: {download.error_message}")
        return download.item

    async def pause(self, item: ItemId) -> None:
        try:
            async with asyncio.timeout(self._settings.timeout):
                while (download := await self._must_have(item)).status in ("active", "waiting"):
                    with contextlib.suppress(ClientRefused):  # it is pausing, or another follows it
                        await self._rpc.ask(str, "forcePause", download.gid)
                    await asyncio.sleep(0.05)
        except TimeoutError as error:
            raise ClientRefused("aria2 does not stop this download; try again later") from error
        if download.status == "error":
            raise ClientRefused("aria2 cannot pause a download that has failed")

    async def resume(self, item: ItemId) -> None:
        download = await self._must_have(item)
        if download.status == "error":
            raise ClientRefused("aria2 cannot resume a download that has failed: add it again")
        if download.status == "paused":
            await self._rpc.ask(str, "unpause", download.gid)

    async def remove(self, item: ItemId, *, delete_files: bool) -> None:
        download = await self._find(item)
        paths: list[Path] = []
        if download is not None and delete_files:
            if not self._settings.sees_files:
                raise ClientRefused(
                    "aria2 does not delete files; where mediabus sees the same files, set"
                    " sees_files = true, else remove the download and keep its files"
                )
            files = await self._rpc.ask(list[File], "getFiles", download.gid)
            paths = [Path(file.path) for file in files]
        await self._forget(item)
        if download is not None and paths:
            try:
                await asyncio.to_thread(delete, Path(download.dir), paths)
            except OSError as error:
                raise ClientRefused(
                    f"aria2 let go of the download, but not all files can be deleted: {error}"
                ) from error

    async def _forget(self, item: ItemId) -> None:
        """Remove all that has the id, the metadata that led to it too: after a restart they would
        lead to it again."""
        try:
            async with asyncio.timeout(self._settings.timeout):
                while left := [it for it in await self._listed(item) if it.item == item]:
                    live = [it.gid for it in left if it.status in ("active", "waiting", "paused")]
                    done = [it.gid for it in left if it.gid not in live]
                    await self._rpc.ask_many(
                        *(("forceRemove", gid) for gid in live),
                        *(("removeDownloadResult", gid) for gid in [*live, *done]),
                    )
                    await asyncio.sleep(0.02)
        except TimeoutError as error:
            raise ClientRefused("aria2 does not let go of this download") from error

    async def _must_have(self, item: ItemId) -> Download:
        download = await self._find(item)
        if download is None:
            raise ClientRefused(f"aria2 has no download {item}")
        return download

    async def _find(self, item: ItemId) -> Download | None:
        return newest(await self._listed(item)).get(item)

    async def _listed(self, item: ItemId) -> list[Download]:
        """All that may have the id."""
        if not re.fullmatch(r"[0-9a-f]{40}|[0-9a-f]{16}", item):
            raise ClientRefused(f"aria2 has no download {item!r}")
        lists = await self._rpc.ask_many(*LISTS)
        return [one for some in lists for one in self._rpc.understood(some, list[Download])]


LISTS: Final = (("tellStopped", 0, ALL, KEYS), ("tellWaiting", 0, ALL, KEYS), ("tellActive", KEYS))
"""Calls for all there is, what is alive last."""
