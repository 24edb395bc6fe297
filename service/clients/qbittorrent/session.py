"""The settings of a qBittorrent, and a session with it."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from typing import Final

import aiohttp
import msgspec

from mediabus.schemas.status import DownloadStatus, ItemId
from mediabus.service.clients.category import checked_category
from mediabus.service.clients.http import Http, HttpSettings, base_url, http_session
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
from mediabus.service.clients.qbittorrent.rpc import Rpc
from mediabus.service.clients.qbittorrent.states import Torrent, ids_of, status_of
from mediabus.service.clients.qbittorrent.trackers import Trouble
from mediabus.service.clients.sources import (
    already_present,
    infohashes,
    one_torrent,
    torrent_for,
)
from mediabus.service.clients.tolerant import mended


class QBittorrentSettings(HttpSettings, frozen=True, kw_only=True, tag="qbittorrent"):
    """The settings of a qBittorrent client.

    ``url`` is that of the web page, including the path of a reverse proxy. Without username and
    password, qBittorrent must be set to skip the login for the address of mediabus.
    """

    protocol = "torrent"

    @contextlib.asynccontextmanager
    async def connect(self) -> AsyncIterator[DownloadClient]:
        base = base_url(self.url)
        async with http_session(base, "qBittorrent", self) as http:
            yield QBittorrent(http, self)


FULL_POLL_EVERY: Final = 300.0
"""Seconds between full polls: a change that one partial answer omits is in no later one."""

ALL_LISTED: Final = 1.0
"""Seconds between searches of the whole list for a torrent that may have another id."""


class Listed(msgspec.Struct, frozen=True):
    """A torrent's entry in torrents/info."""

    hash: str
    name: str
    infohash_v1: str = ""
    infohash_v2: str = ""

    @property
    def ids(self) -> set[ItemId]:
        """All ids of the torrent."""
        return {ItemId(self.hash.lower())} | ids_of(self)


class MainData(msgspec.Struct, frozen=True):
    """An answer of sync/maindata. In a partial one, a torrent has only its changed fields."""

    rid: int
    full_update: bool = False
    torrents: dict[str, dict[str, object]] = {}
    torrents_removed: list[str] = []


class QBittorrent:
    """A session with one qBittorrent, opened by ``QBittorrentSettings.connect``.

    See ``DownloadClient`` for its contract.
    """

    def __init__(self, http: Http, settings: QBittorrentSettings) -> None:
        self._http = http
        self._settings = settings
        self._rpc = Rpc(http, base_url(settings.url), settings.username, settings.password)
        self._trouble = Trouble(http, self._rpc)
        self._observing = asyncio.Lock()
        self._rid = 0
        self._full_poll_at = 0.0  # the time of the last full poll
        self._run: dict[str, str] | None = None  # the session cookie, which ends with the process
        self._records: dict[str, dict[str, object]] = {}

    async def version(self) -> str:
        return (await self._rpc.call("GET", "app/version")).text.removeprefix("v")

    async def observe(self) -> Observation:
        async with self._observing:
            now = time.monotonic()
            rid = self._take_rid(now)
            answer = await self._rpc.call("GET", "sync/maindata", params={"rid": str(rid)})
            data = self._http.decode(answer, MainData)
            if not rid and not data.full_update:
                self._http.raise_protocol_error("the answer to a full poll is partial")
            superseded = self._merge(data)
            if data.full_update:
                self._full_poll_at = now
            troubled = await self._trouble.ask_trackers(self._records)
            present = {*data.torrents, *troubled} & self._records.keys()
            items = await self._statuses(present)
            self._rid = data.rid
        last_run = self._run
        self._run = self._http.cookies("SID")
        if data.full_update:
            return Snapshot(items, restarted=last_run not in (None, self._run))
        removed = [*data.torrents_removed, *superseded]
        return Delta(items, [ItemId(item.lower()) for item in removed])

    def _take_rid(self, now: float) -> int:
        """Return the response id to continue from, and reset it; 0 for a full poll.

        If this poll fails, the next one is a full one.
        """
        rid = self._rid
        self._rid = 0
        return 0 if now - self._full_poll_at > FULL_POLL_EVERY else rid

    def _merge(self, data: MainData) -> set[str]:
        """Apply an answer to the known records.

        Returns the old ids of torrents that are listed by another id now: 5.3.0 does not report
        the old ids as removed.
        """
        if data.full_update:
            self._records = {}
        known = set(self._records)
        for item, fields in data.torrents.items():
            self._records.setdefault(item, {}).update(fields)
        for item in data.torrents_removed:
            self._records.pop(item, None)
        new = self._records.keys() - known
        superseded = {
            other
            for item in new
            for other in _other_ids(item, self._records[item])
            if other in known and other in self._records
        }
        for item in superseded:
            del self._records[item]
        return superseded

    async def _statuses(self, items: Iterable[str]) -> list[DownloadStatus]:
        torrents = {item: _torrent_of(self._records[item]) for item in items}
        await self._trouble.explain(torrents)
        return [
            status_of(self._settings.client_name, item, torrent, self._trouble.words(item, torrent))
            for item, torrent in torrents.items()
        ]

    async def add(
        self,
        source: Source,
        *,
        title: str,  # noqa: ARG002 - a torrent contains its name
        category: str | None,
    ) -> ItemId:
        source = torrent_for("qBittorrent", source)
        category = checked_category("qBittorrent", category)
        hashes = infohashes(source)
        if present := await self._listed(hashes):
            raise already_present("qBittorrent", present.name)
        try:
            await self._hand_over(source, category)
        except ClientRefused as error:
            if present := await self._listed_by_any_id(hashes):
                raise already_present("qBittorrent", present.name) from error
            raise
        return await self._until_listed(hashes)

    async def _hand_over(self, source: Magnet | TorrentFile, category: str | None) -> None:
        answer = await self._rpc.call("POST", "torrents/add", form=_form(source, category))
        if answer.text.startswith("Fails"):
            raise ClientRefused(
                f"qBittorrent refused: {answer.text!r}. It cannot use this torrent or magnet link"
            )

    async def pause(self, item: ItemId) -> None:
        await self._switch(await self._must_have(item), "stop", "pause")

    async def resume(self, item: ItemId) -> None:
        await self._switch(await self._must_have(item), "start", "resume")

    async def remove(self, item: ItemId, *, delete_files: bool) -> None:
        listed = await self._find([one_torrent("qBittorrent", item)])
        if listed is None:
            return
        form = {"hashes": listed.hash, "deleteFiles": str(delete_files).lower()}
        await self._rpc.call("POST", "torrents/delete", form=lambda: aiohttp.FormData(form))

    async def _switch(self, item: str, verb: str, verb_before_5: str) -> None:
        form = {"hashes": item}
        answer = await self._rpc.call(
            "POST", f"torrents/{verb}", form=lambda: aiohttp.FormData(form)
        )
        if answer.status == 404:
            await self._rpc.call(
                "POST", f"torrents/{verb_before_5}", form=lambda: aiohttp.FormData(form)
            )

    async def _must_have(self, item: ItemId) -> str:
        """Return the hash by which the torrent is listed."""
        listed = await self._find([one_torrent("qBittorrent", item)])
        if listed is None:
            raise ClientRefused(f"qBittorrent has no download {item}")
        return listed.hash

    async def _find(self, hashes: Sequence[str]) -> Listed | None:
        return await self._listed(hashes) or await self._listed_by_any_id(hashes)

    async def _listed(self, hashes: Iterable[str]) -> Listed | None:
        """Return the torrent that is listed by one of these hashes."""
        answer = await self._rpc.call("GET", "torrents/info", params={"hashes": "|".join(hashes)})
        return next(iter(self._http.decode(answer, list[Listed])), None)

    async def _listed_by_any_id(self, hashes: Iterable[str]) -> Listed | None:
        """Return the torrent that has one of these hashes, even if it is listed by another one.

        qBittorrent's own search finds only the hash by which a torrent is listed.
        """
        answer = await self._rpc.call("GET", "torrents/info")
        everything = self._http.decode(answer, list[Listed])
        matching = (torrent for torrent in everything if not torrent.ids.isdisjoint(hashes))
        return next(matching, None)

    async def _until_listed(self, hashes: Sequence[str]) -> ItemId:
        """Wait until the download is listed, up to 0.1 s after qBittorrent answered ``Ok.``"""
        all_listed_at = time.monotonic()
        try:
            async with asyncio.timeout(self._settings.timeout):
                while not (found := await self._listed(hashes)):
                    if time.monotonic() - all_listed_at > ALL_LISTED:
                        all_listed_at = time.monotonic()
                        if found := await self._listed_by_any_id(hashes):
                            break
                    await asyncio.sleep(0.05)
                return ItemId(found.hash.lower())
        except TimeoutError as error:
            raise ClientRefused(
                "qBittorrent accepted the download but"
                f" did not list it in {self._settings.timeout:g} s"
            ) from error


def _torrent_of(record: Mapping[str, object]) -> Torrent:
    """Decode a record. A value of the wrong type gets the default of its field."""
    try:
        return msgspec.convert(record, Torrent)
    except msgspec.ValidationError:
        return mended(record, Torrent)


def _other_ids(item: str, record: Mapping[str, object]) -> set[str]:
    """Return the ids of a torrent other than the one by which it is listed."""
    hashes = (str(record.get("infohash_v1") or ""), str(record.get("infohash_v2") or "")[:40])
    return {text for text in hashes if text} - {item}


def _form(source: Magnet | TorrentFile, category: str | None) -> Callable[[], aiohttp.FormData]:
    def form() -> aiohttp.FormData:
        data = aiohttp.FormData()
        match source:
            case Magnet(uri):
                data.add_field("urls", uri)
            case TorrentFile(content):
                data.add_field("torrents", content, filename="a.torrent")
        if category:
            data.add_field("category", category)
        return data

    return form
