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
from pathlib import PurePosixPath
from typing import Any, Final, NoReturn
from xml.parsers.expat import ExpatError

import msgspec

from schemas.status import ClientName, DownloadStatus, FailureReason, ItemId, Phase
from service.clients.http import HttpSettings
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
from service.clients.scgi import Way, must_be_way, way_to
from service.clients.sources import infohashes, one_torrent, torrent_for

NO_SUCH: Final = -501
"""The fault "Could not find info-hash"."""

LISTED_WITHIN: Final = 3.0
"""Seconds. load.* answers 0 to everything, and lists what it can use at once."""

SMALL: Final = 500_000
"""Bytes of a request that it takes as it comes: its limit is 524,288 unless it is raised."""

MESSAGES: Final[tuple[tuple[str, FailureReason | None], ...]] = (
    ("Tracker: [", None),  # the download goes on
    ("Cannot change the directory", None),  # what was asked of it, not what became of it
    ("Download registered as completed, but", "missing_files"),
    ("Low diskspace", "disk_full"),
    ("", "client_error"),
)
"""How d.message begins (download.cc, download_list.cc, command_events.cc) and, for a download that
is not active, the failure that it tells of; the first one counts."""

NOT_OPENED: Final = "rTorrent cannot open the files of this download; only its own log says why"


class RTorrentSettings(HttpSettings, frozen=True, kw_only=True, tag="rtorrent"):
    """``url`` is ``scgi://host:port`` or ``scgi:///path/of/socket``, or the http(s) address, path
    included, of the web server that passes XML-RPC on to it. rTorrent itself knows no password:
    ``username`` and ``password`` are that server's."""

    protocol = "torrent"

    def __post_init__(self) -> None:
        must_be_way(self)

    @contextlib.asynccontextmanager
    async def connect(self) -> AsyncIterator[DownloadClient]:
        async with way_to(self, "rTorrent") as way:
            yield RTorrent(way, self)


class Torrent(msgspec.Struct, frozen=True, rename="d.{}".format):
    """What is asked of every torrent, by the name that rTorrent has for it: texts, then numbers."""

    hash: str
    name: str
    message: str
    directory: str
    label: str = msgspec.field(name="d.custom1")  # as ruTorrent keeps it: percent-encoded
    state: int  # 1 is started, though it may rest (d.pause)
    is_active: int
    complete: int
    hashing: int  # 0 no, 1 at first, 2 at the end, 3 asked for
    hashing_failed: int
    is_meta: int  # not the download yet, but its metadata
    is_multi_file: int
    size: int = msgspec.field(name="d.size_bytes")
    done: int = msgspec.field(name="d.bytes_done")
    uploaded: int = msgspec.field(name="d.up.total")
    down_rate: int = msgspec.field(name="d.down.rate")
    up_rate: int = msgspec.field(name="d.up.rate")


FIELDS: Final = msgspec.structs.fields(Torrent)
TEXTS: Final = [field.encode_name for field in FIELDS if field.type is str]
NUMBERS: Final = [field.encode_name for field in FIELDS if field.type is int]
ROW: Final = (
    *(f"{name}=" for name in TEXTS),
    # One value in XML in place of twelve: reading them is most of the work of an observation.
    "cat=" + ',"  ",'.join(f"${name}=" for name in NUMBERS),
)
"""What d.multicall2 is asked for."""


def torrent_of(row: Sequence[str]) -> Torrent:
    """ValueError, TypeError or AttributeError for what is no row."""
    key, name, message, directory, label, numbers = row
    return Torrent(key, name, message, directory, label, *map(int, numbers.split()))


def phase_of(torrent: Torrent) -> Phase:
    """What the torrent does."""
    if failure_of(torrent):
        return Phase.FAILED
    if torrent.hashing:
        return Phase.CHECKING
    if torrent.complete and not torrent.is_meta:
        return Phase.COMPLETED
    if not torrent.state or not torrent.is_active:
        return Phase.PAUSED
    return Phase.METADATA if torrent.is_meta else Phase.DOWNLOADING


def failure_of(torrent: Torrent) -> FailureReason | None:
    """Why the torrent failed, if it did. Files that it cannot open leave it waiting for its check
    for ever, without a word."""
    if torrent.is_active:
        return None
    if torrent.message:
        return next(reason for start, reason in MESSAGES if torrent.message.startswith(start))
    return "not_writable" if torrent.hashing and torrent.hashing_failed else None


def status_of(client: ClientName, torrent: Torrent) -> DownloadStatus:
    """The row in the vocabulary of all clients."""
    known = not torrent.is_meta
    phase = phase_of(torrent)
    done = min(torrent.done, torrent.size) if known else 0
    rate = torrent.down_rate
    return DownloadStatus(
        client=client,
        item=ItemId(torrent.hash.lower()),
        title=torrent.name if known else torrent.name.removesuffix(".meta"),
        phase=phase,
        progress=done / torrent.size if known and torrent.size else 0.0,
        size=torrent.size if known else None,
        downloaded=done,
        uploaded=torrent.uploaded,
        download_rate=rate,
        upload_rate=torrent.up_rate,
        eta=(torrent.size - done) // rate if rate and phase is Phase.DOWNLOADING else None,
        save_path=_save_path(torrent),
        category=urllib.parse.unquote(torrent.label) or None,
        reason=failure_of(torrent),
        message=torrent.message or (NOT_OPENED if phase is Phase.FAILED else None),
        client_state=_state(torrent),
    )


def _save_path(torrent: Torrent) -> str | None:
    """Where the torrent's file or folder is: d.directory is that folder itself."""
    head, tail = posixpath.split(torrent.directory.rstrip("/"))
    inside = torrent.is_multi_file and tail == torrent.name
    return (head if inside else torrent.directory) or None


def _state(torrent: Torrent) -> str:
    """rTorrent has no word for it: these are its page's."""
    if torrent.hashing:
        return "hashing"
    if not torrent.state:
        return "stopped"
    return "active" if torrent.is_active else "paused"


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
            process, rows = await self._together(
                ("system.pid",), ("d.multicall2", "", "main", *ROW)
            )
            torrents = self._torrents(rows)
            before, self._known = self._known, torrents
            restarted = self._process not in (None, process)
            self._run = self._process = process
        client = self._settings.client_name
        if run is None or run != process:
            return Snapshot([status_of(client, it) for it in torrents.values()], restarted)
        changed = [status_of(client, it) for key, it in torrents.items() if before.get(key) != it]
        return Delta(changed, [ItemId(key.lower()) for key in before.keys() - torrents.keys()])

    def _torrents(self, rows: Any) -> dict[str, Torrent]:  # noqa: ANN401 - as XML-RPC has it
        try:
            torrents = [torrent_of(row) for row in rows]
        except (TypeError, ValueError, AttributeError) as error:
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
        item = infohashes(source)[0]
        if name := await self._name(item):
            raise ClientRefused(f"rTorrent already has this download, as {name!r}")
        # A command, in which only commas, quotes and the like count: none is left by the encoding.
        label = [f"d.custom1.set={urllib.parse.quote(category, safe='')}"] if category else []
        if isinstance(source, Magnet):
            await self._call("load.start_verbose", "", source.uri.strip(), *label, once=True)
        else:
            content = xmlrpc.client.Binary(source.content)
            await self._make_room(len(source.content) * 3 // 2)
            await self._call("load.raw_start_verbose", "", content, *label, once=True)
        return await self._until_listed(item)

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
    folders = {folder for path in paths for folder in PurePosixPath(path).parents}
    inside = {str(folder) for folder in folders if folder.is_relative_to(top)}
    return sorted(inside | {top}, key=len, reverse=True)


def _printable(answer: bytes) -> str:
    """The XML as rTorrent means it: names may have bytes that neither UTF-8 nor XML has."""
    return re.sub(r"[\x00-\x08\x0b\x0c\x0e-\x1f]", "", answer.decode(errors="replace"))
