"""rTorrent 0.9.8 and later over its XML-RPC.

What is said here of its behaviour was seen on 0.9.8 or read in its source, of 0.16 read only.
"""

import asyncio
import contextlib
import posixpath
import re
import time
import urllib.parse
import xmlrpc.client
from collections.abc import AsyncIterator, Sequence
from typing import Any, Final, NoReturn
from xml.parsers.expat import ExpatError

from schemas.status import ItemId
from service.clients.port import (
    ClientRefused,
    ClientUnavailable,
    Delta,
    DownloadClient,
    Magnet,
    Observation,
    Snapshot,
    Source,
)
from service.clients.rtorrent_torrents import ROW, Torrent, status_of, torrent_of
from service.clients.scgi import Way, must_be_way, way_to
from service.clients.settings import ClientSettings
from service.clients.sources import infohashes, one_torrent, torrent_for

NO_SUCH: Final = -501
"""The fault "Could not find info-hash"."""

LISTED_WITHIN: Final = 3.0
"""Seconds. load.* answers 0 to everything, and lists what it can use at once."""

SMALL: Final = 500_000
"""Bytes of a request that it takes as it comes: its limit is 524,288 unless it is raised."""


class RTorrentSettings(ClientSettings, frozen=True, kw_only=True, tag="rtorrent"):
    """``url`` is ``scgi://host:port`` or ``scgi:///path/of/socket``, or the http(s) address, path
    included, of the web server that passes XML-RPC on to it. rTorrent itself knows no password:
    ``username`` and ``password`` are that server's."""

    protocol = "torrent"

    def __post_init__(self) -> None:
        must_be_way(self.url)

    @contextlib.asynccontextmanager
    async def connect(self) -> AsyncIterator[DownloadClient]:
        async with way_to(self, "rTorrent") as way:
            yield RTorrent(way, self)


class RTorrent:
    """A session with one rTorrent, as ``DownloadClient`` says; made by its settings."""

    def __init__(self, way: Way, settings: RTorrentSettings) -> None:
        self._way = way
        self._settings = settings
        self._observing = asyncio.Lock()
        self._run: object = None  # the process whose torrents are known
        self._process: object = None  # the process that answered last
        self._known: dict[str, Torrent] = {}

    async def version(self) -> str:
        return str(await self._call("system.client_version"))

    async def observe(self) -> Observation:
        async with self._observing:
            # Until this answer is wholly understood, the next one is a snapshot again.
            run, self._run = self._run, None
            process, rows = await self._together(("system.pid",), _rows_of("main"))
            torrents = self._torrents(rows)
            before, self._known = self._known, torrents
            restarted = self._process not in (None, process)
            self._run = self._process = process
        client = self._settings.client_name
        if run is None or run != process:
            statuses = [status_of(client, torrent) for torrent in torrents.values()]
            return Snapshot(statuses, restarted)
        changed = [it for key, it in torrents.items() if before.get(key) != it]
        gone = before.keys() - torrents.keys()
        return Delta(
            [status_of(client, torrent) for torrent in changed],
            [ItemId(key.lower()) for key in gone],
        )

    def _torrents(self, rows: Any) -> dict[str, Torrent]:  # noqa: ANN401 - as XML-RPC has it
        try:
            torrents = [torrent_of(row) for row in rows]
        except (TypeError, ValueError, IndexError) as error:
            self._misunderstood(f"no torrents but {rows!r:.80}", error)
        return {torrent.hash: torrent for torrent in torrents}

    async def add(
        self,
        source: Source,
        *,
        title: str,  # noqa: ARG002 - a torrent brings its own name
        category: str | None,
    ) -> ItemId:
        source = torrent_for("rTorrent", source)
        hashes = infohashes(source)
        if name := await self._name(hashes[0]):
            raise ClientRefused(f"rTorrent already has this download, as {name!r}")
        # A command, in which only commas, quotes and the like count: none is left by the encoding.
        label = [f"d.custom1.set={urllib.parse.quote(category, safe='')}"] if category else []
        if isinstance(source, Magnet):
            await self._call("load.start_verbose", "", source.uri.strip(), *label, once=True)
        else:
            content = xmlrpc.client.Binary(source.content)
            await self._make_room(len(source.content) * 3 // 2)
            await self._call("load.raw_start_verbose", "", content, *label, once=True)
        return await self._until_listed(hashes[0])

    async def _make_room(self, size: int) -> None:
        """Raise the limit of what may be asked, if a request of that many bytes needs it."""
        if size > SMALL and int(await self._call("network.xmlrpc.size_limit")) < 2 * size:
            await self._call("network.xmlrpc.size_limit.set", "", 2 * size)

    async def _until_listed(self, item: ItemId) -> ItemId:
        deadline = time.monotonic() + min(LISTED_WITHIN, self._settings.timeout)
        while not await self._name(item):
            if time.monotonic() > deadline:
                raise ClientRefused(
                    "rTorrent says nothing, but does not list it: it cannot use this"
                    " torrent file or magnet link, and only its own log says why"
                )
            await asyncio.sleep(0.05)
        return item

    async def pause(self, item: ItemId) -> None:
        # d.stop, for what d.pause does is forgotten when rTorrent is restarted.
        await self._command(item, "d.stop")

    async def resume(self, item: ItemId) -> None:
        # d.start undoes d.stop, d.resume what another did by d.pause or d.close.
        await self._command(item, "d.start")
        await self._command(item, "d.resume")

    async def remove(self, item: ItemId, *, delete_files: bool) -> None:
        if await self._name(one_torrent("rTorrent", item)) is None:
            return
        if delete_files:
            await self._delete_files(item.upper())
        with contextlib.suppress(NoSuchTorrent):
            await self._call("d.erase", item.upper())

    async def _delete_files(self, key: str) -> None:
        """rTorrent never deletes files, but runs programs where it is: here rm, for each file that
        is the torrent's, and rmdir, for the folders that this leaves empty. It puts in the names
        itself: what it tells of them lacks letters beyond U+FFFF."""
        directory, name, several, files = await self._together(
            ("d.directory", key),
            ("d.name", key),
            ("d.is_multi_file", key),
            ("f.multicall", key, "", "f.path="),
        )
        await self._run_there("f.multicall", key, "", "execute.nothrow=rm,-f,--,$f.frozen_path=")
        there = await self._call("f.multicall", key, "", "f.is_created=")
        if any(is_created for (is_created,) in there):
            raise ClientRefused("rTorrent could not delete the files; its own log says why")
        named = posixpath.basename(directory) == name
        top = posixpath.dirname(directory) if several and named else directory
        # What a magnet link leaves behind when it has become a torrent.
        await self._run_there("execute.nothrow", "", "rm", "-f", "--", f"{top}/{key}.meta")
        if several and named:
            for folder in folders_of([f"{directory}/{path}" for (path,) in files], directory):
                await self._run_there("execute.nothrow", "", "rmdir", "--", folder)

    async def _run_there(self, *command: str) -> None:
        try:
            await self._call(*command)
        except ClientRefused as error:
            raise ClientRefused(
                f"rTorrent may not run programs here: remove the download without files ({error})"
            ) from error

    async def _command(self, item: ItemId, method: str) -> None:
        try:
            await self._call(method, one_torrent("rTorrent", item).upper())
        except NoSuchTorrent as error:
            raise ClientRefused(f"rTorrent has no download {item}") from error

    async def _name(self, item: ItemId) -> str | None:
        try:
            return str(await self._call("d.name", item.upper()))
        except NoSuchTorrent:
            return None

    async def _together(self, *calls: tuple[str, ...]) -> list[Any]:
        """The results of some calls in one question; None for one that failed."""
        questions = [{"methodName": method, "params": params} for method, *params in calls]
        answers = await self._call("system.multicall", questions)
        if not isinstance(answers, list) or len(answers) != len(calls):
            self._misunderstood(f"{answers!r:.80}")
        return [it[0] if isinstance(it, list) and it else None for it in answers]

    async def _call(self, method: str, *params: Any, once: bool = False) -> Any:  # noqa: ANN401
        """The result of one call; ``once`` if it must not be put twice."""
        body = xmlrpc.client.dumps(params, method).encode()
        answer = await self._way.post(body, repeatable=not once)
        try:
            result: Any = xmlrpc.client.loads(_printable(answer))[0][0]
        except xmlrpc.client.Fault as fault:
            if fault.faultCode == NO_SUCH:
                raise NoSuchTorrent(fault.faultString) from fault
            raise ClientRefused(f"rTorrent says {fault.faultString!r}") from fault
        except (ExpatError, ValueError, LookupError, TypeError, xmlrpc.client.Error) as error:
            self._misunderstood(f"{error} in {answer[:80]!r}", error)
        return result

    def _misunderstood(self, what: str, cause: Exception | None = None) -> NoReturn:
        raise ClientUnavailable(
            "protocol", f"{self._settings.url} does not answer as rTorrent does: {what}"
        ) from cause


class NoSuchTorrent(ClientRefused):
    """rTorrent does not have the torrent."""


def folders_of(paths: Sequence[str], top: str) -> list[str]:
    """The folders of these files from the deepest up to ``top``, and none outside of it."""
    folders = {top}
    for path in paths:
        folder = posixpath.dirname(path)
        while folder.startswith(f"{top}/"):
            folders.add(folder)
            folder = posixpath.dirname(folder)
    return sorted(folders, key=len, reverse=True)


def _rows_of(view: str) -> tuple[str, ...]:
    return ("d.multicall2", "", view, *ROW)


def _printable(answer: bytes) -> str:
    """The XML as rTorrent means it: names may have bytes that neither UTF-8 nor XML has."""
    return re.sub(r"[\x00-\x08\x0b\x0c\x0e-\x1f]", "", answer.decode(errors="replace"))
