"""A session with rTorrent: poll its torrents and send commands."""

import asyncio
import contextlib
import dataclasses
import posixpath
import reprlib
import time
import urllib.parse
import xmlrpc.client
from collections.abc import AsyncIterator, Sequence
from pathlib import PurePosixPath
from typing import Any, Final
from uuid import uuid4

from mediabus.schemas.status import DownloadStatus, ItemId
from mediabus.service.clients.category import checked_category
from mediabus.service.clients.http import HttpSettings
from mediabus.service.clients.port import (
    ClientRefused,
    Delta,
    DownloadClient,
    Magnet,
    Observation,
    Snapshot,
    Source,
)
from mediabus.service.clients.rtorrent.rpc import NoSuchTorrent, Rpc
from mediabus.service.clients.rtorrent.states import (
    FILE,
    ROW,
    Selection,
    Torrent,
    selection_of,
    status_of,
    torrent_of,
)
from mediabus.service.clients.scgi import Transport, check_address, open_transport
from mediabus.service.clients.settings import ClientSettings
from mediabus.service.clients.sources import (
    already_present,
    infohashes,
    one_torrent,
    torrent_for,
)

LISTED_WITHIN: Final = 3.0
"""Seconds. load.* returns 0 for any input, and lists a valid torrent at once."""

SMALL: Final = 500_000
"""Bytes of a request that fits the default limit of rTorrent, 524,288 bytes."""

LOADING: Final = 2.0
"""Seconds to wait after a start. Version 0.16 briefly omits torrents that it is still loading."""

LISTED_BY_ITS_ID_WITHIN: Final = 0.5
"""Seconds after which an added torrent is also searched for by its mark."""

MARK: Final = "mediabus"
"""The custom value that identifies a torrent that was just added."""

SELECTION_LASTS: Final = 30.0
"""Seconds after which file selections are requested again, even if no chunk count changed."""

ASKED_TOGETHER: Final = 100
"""Torrents whose files one call requests."""


class RTorrentSettings(HttpSettings, frozen=True, kw_only=True, tag="rtorrent"):
    """The settings of an rTorrent client.

    ``url`` is ``scgi://host:port``, ``scgi:///path/of/socket``, or the http(s) URL of the web
    server that forwards XML-RPC to it, including the path. ``username`` and ``password`` are those
    of the web server, because rTorrent has no login.
    """

    protocol = "torrent"

    def __post_init__(self) -> None:
        ClientSettings.__post_init__(self)
        check_address(self)

    @contextlib.asynccontextmanager
    async def connect(self) -> AsyncIterator[DownloadClient]:
        async with open_transport(self, "rTorrent") as transport:
            yield RTorrent(transport, self)


class RTorrent:
    """A session with one rTorrent. Implements ``DownloadClient``."""

    def __init__(self, transport: Transport, settings: RTorrentSettings) -> None:
        self._rpc = Rpc(transport, settings.url)
        self._settings = settings
        self._observing = asyncio.Lock()
        self._run: object = None  # the process that the known torrents came from
        self._process: object = None  # the process that answered last
        self._met: tuple[object, float] | None = None  # a process, and when it was first seen
        self._known: dict[str, Torrent] = {}
        self._selections: dict[str, _Selected] = {}

    async def version(self) -> str:
        return str(await self._rpc.call("system.client_version"))

    async def observe(self) -> Observation:
        async with self._observing:
            run = self._run
            self._run = None  # if this poll fails, the next one returns a snapshot
            process, rows = await self._everything()
            torrents = self._torrents(rows)
            reselected = await self._ask_for_selections(torrents)
            before = self._known
            self._known = torrents
            restarted = self._process not in (None, process)
            self._run = self._process = process
        if run is None or run != process:
            return Snapshot([self._status(torrent) for torrent in torrents.values()], restarted)
        changed = [
            key
            for key, torrent in torrents.items()
            if before.get(key) != torrent or key in reselected
        ]
        gone = [ItemId(key.lower()) for key in before.keys() - torrents.keys()]
        return Delta([self._status(torrents[key]) for key in changed], gone)

    def _status(self, torrent: Torrent) -> DownloadStatus:
        selected = self._selections.get(torrent.hash)
        selection = selected.selection if selected else None
        return status_of(self._settings.client_name, torrent, selection)

    async def _ask_for_selections(self, torrents: dict[str, Torrent]) -> set[str]:
        """Request the file selections of torrents with deselected files.

        This happens when the number of their chunks changes, and periodically. Returns the torrents
        whose selection changed.
        """
        now = time.monotonic()
        selective = {key: it for key, it in torrents.items() if it.is_selective}
        before = {key: it for key, it in self._selections.items() if key in selective}
        due = [key for key, it in selective.items() if not _is_current(before.get(key), it, now)]
        self._selections = before | await self._selections_of(due, selective, now)
        return {key for key in due if _selection(before, key) != _selection(self._selections, key)}

    async def _selections_of(
        self, keys: Sequence[str], torrents: dict[str, Torrent], now: float
    ) -> "dict[str, _Selected]":
        selections = {}
        for start in range(0, len(keys), ASKED_TOGETHER):
            some = keys[start : start + ASKED_TOGETHER]
            sizes = await self._rpc.together(*(("d.chunk_size", key) for key in some))
            files = await self._rpc.together(*(("f.multicall", key, "", *FILE) for key in some))
            for key, chunk, listed in zip(some, sizes, files, strict=True):
                if chunk and listed:  # else it was removed meanwhile
                    chunks = (torrents[key].completed_chunks, torrents[key].wanted_chunks)
                    selections[key] = _Selected(selection_of(listed, chunk), chunks, now)
        return selections

    async def _everything(self) -> list[Any]:
        """Return the process and the rows of all torrents, after it has loaded them."""
        asked = (("system.pid",), ("d.multicall2", "", "main", *ROW))
        process, rows = await self._rpc.together(*asked)
        if rows or not await self._has_waited(process):
            return [process, rows]
        return await self._rpc.together(*asked)

    async def _has_waited(self, process: object) -> bool:
        """Wait if the process may still be loading torrents. Return whether it waited."""
        now = time.monotonic()
        if self._met is None or self._met[0] != process:
            self._met = (process, now)
        left = self._met[1] + LOADING - now
        await asyncio.sleep(max(left, 0))
        return left > 0

    def _torrents(self, rows: Any) -> dict[str, Torrent]:  # noqa: ANN401 - as XML-RPC has it
        try:
            torrents = [torrent_of(row) for row in rows]
        except (TypeError, ValueError, AttributeError) as error:
            self._rpc.raise_protocol_error(f"expected torrents, got {reprlib.repr(rows)}", error)
        return {torrent.hash: torrent for torrent in torrents}

    async def add(
        self,
        source: Source,
        *,
        title: str,  # noqa: ARG002 - a torrent contains its name
        category: str | None,
    ) -> ItemId:
        source = torrent_for("rTorrent", source)
        category = checked_category("rTorrent", category)
        item = infohashes(source)[0]
        if name := await self._name(item):
            raise already_present("rTorrent", name)
        mark = uuid4().hex
        # In commands, commas and quotes are special. Percent-encoding removes both.
        label = [f"d.custom1.set={urllib.parse.quote(category, safe='')}"] if category else []
        label.append(f"d.custom.set={MARK},{mark}")
        if isinstance(source, Magnet):
            await self._rpc.call("load.start_verbose", "", source.uri, *label, once=True)
        else:
            content = xmlrpc.client.Binary(source.content)
            await self._make_room(len(source.content) * 3 // 2)
            await self._rpc.call("load.raw_start_verbose", "", content, *label, once=True)
        return await self._until_listed(item, mark)

    async def _make_room(self, size: int) -> None:
        """Raise the limit of rTorrent for the size of a request, if necessary."""
        if size > SMALL and int(await self._rpc.call("network.xmlrpc.size_limit")) < 2 * size:
            await self._rpc.call("network.xmlrpc.size_limit.set", "", 2 * size)

    async def _until_listed(self, item: ItemId, mark: str) -> ItemId:
        """Wait until the torrent is listed, and return its id.

        The id differs if decoding and encoding changed the bytes of ``info``: rTorrent writes
        numbers without leading zeros.
        """
        begun = time.monotonic()
        deadline = begun + min(LISTED_WITHIN, self._settings.timeout)
        while not await self._name(item):
            if time.monotonic() > begun + LISTED_BY_ITS_ID_WITHIN and (
                found := await self._marked(mark)
            ):
                return found
            if time.monotonic() > deadline:
                raise ClientRefused(
                    "rTorrent reported no error, but does not list it: it cannot use this"
                    " torrent file or magnet link. See its log"
                )
            await asyncio.sleep(0.05)
        return item

    async def _marked(self, mark: str) -> ItemId | None:
        rows = await self._rpc.call("d.multicall2", "", "main", "d.hash=", f"d.custom={MARK}")
        return next((ItemId(key.lower()) for key, its_mark in rows if its_mark == mark), None)

    async def pause(self, item: ItemId) -> None:
        # Not d.pause, which a restart of rTorrent undoes.
        await self._command(item, "d.stop")

    async def resume(self, item: ItemId) -> None:
        # d.start undoes d.stop. d.resume undoes d.pause and d.close by other programs.
        await self._command(item, "d.start")
        await self._command(item, "d.resume")

    async def remove(self, item: ItemId, *, delete_files: bool) -> None:
        with contextlib.suppress(NoSuchTorrent):
            await self._when_loaded(one_torrent("rTorrent", item), "d.name")
            if delete_files:
                await self._delete_files(item.upper())
            await self._rpc.ask_of(item, "d.erase")

    async def _delete_files(self, key: str) -> None:
        """Delete the files of a torrent on the machine of rTorrent.

        rTorrent cannot delete files, but it can run programs: ``rm`` for each file, then ``rmdir``
        for the empty folders. rTorrent fills in the names, because its replies omit characters
        beyond U+FFFF.
        """
        directory, name, several, files = await self._rpc.together(
            ("d.directory", key),
            ("d.name", key),
            ("d.is_multi_file", key),
            ("f.multicall", key, "", "f.path="),
        )
        await self._run_there("f.multicall", key, "", "execute.nothrow=rm,-f,--,$f.frozen_path=")
        there = await self._rpc.call("f.multicall", key, "", "f.is_created=")
        if any(is_created for (is_created,) in there):
            raise ClientRefused("rTorrent could not delete the files: see its log")
        named = posixpath.basename(directory) == name
        top = posixpath.dirname(directory) if several and named else directory
        # The file that rTorrent keeps of a magnet link after it has the metadata.
        await self._run_there("execute.nothrow", "", "rm", "-f", "--", f"{top}/{key}.meta")
        if several and named:
            for folder in folders_of([f"{directory}/{path}" for (path,) in files], directory):
                await self._run_there("execute.nothrow", "", "rmdir", "--", folder)

    async def _run_there(self, *command: str) -> None:
        try:
            await self._rpc.call(*command)
        except ClientRefused as error:
            raise ClientRefused(
                f"rTorrent may not run programs here: remove the download without files ({error})"
            ) from error

    async def _command(self, item: ItemId, method: str) -> None:
        try:
            await self._when_loaded(one_torrent("rTorrent", item), method)
        except NoSuchTorrent as error:
            raise ClientRefused(f"rTorrent has no download {item}") from error

    async def _when_loaded(self, item: ItemId, method: str) -> Any:  # noqa: ANN401 - as XML-RPC has it
        """Call ``ask_of``. If there is no such torrent, wait until all are loaded and retry."""
        try:
            return await self._rpc.ask_of(item, method)
        except NoSuchTorrent:
            if not await self._has_waited(await self._rpc.call("system.pid")):
                raise
            return await self._rpc.ask_of(item, method)

    async def _name(self, item: ItemId) -> str | None:
        try:
            return str(await self._rpc.ask_of(item, "d.name"))
        except NoSuchTorrent:
            return None


@dataclasses.dataclass(frozen=True)
class _Selected:
    """The file selection of a torrent, its number of chunks then, and the time of the request."""

    selection: Selection
    chunks: tuple[int, int]
    at: float


def _is_current(selected: _Selected | None, torrent: Torrent, now: float) -> bool:
    if selected is None or now - selected.at > SELECTION_LASTS:
        return False
    return selected.chunks == (torrent.completed_chunks, torrent.wanted_chunks)


def _selection(selections: "dict[str, _Selected]", key: str) -> Selection | None:
    return selections[key].selection if key in selections else None


def folders_of(paths: Sequence[str], top: str) -> list[str]:
    """Return the folders of files, deepest first, up to and including ``top``."""
    folders = {folder for path in paths for folder in PurePosixPath(path).parents}
    inside = {str(folder) for folder in folders if folder.is_relative_to(top)}
    return sorted(inside | {top}, key=len, reverse=True)
