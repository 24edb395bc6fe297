"""The settings of a qBittorrent, and a session with it."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterable

import aiohttp
import msgspec

from schemas.status import DownloadStatus, ItemId
from service.clients.http import Http, HttpSettings, base_url, http_session
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
from service.clients.qbittorrent.rpc import Rpc
from service.clients.qbittorrent.states import Torrent, status_of
from service.clients.qbittorrent.trouble import Trouble
from service.clients.sources import infohashes, one_torrent, torrent_for


class QBittorrentSettings(HttpSettings, frozen=True, kw_only=True, tag="qbittorrent"):
    """``url`` is that of the web page, with the path if a reverse proxy adds one. Without username
    and password the client must let us in by our address."""

    protocol = "torrent"

    @contextlib.asynccontextmanager
    async def connect(self) -> AsyncIterator[DownloadClient]:
        base = base_url(self.url)
        async with http_session(base, "qBittorrent", self) as http:
            yield QBittorrent(http, self)


class Listed(msgspec.Struct, frozen=True):
    """A torrent's entry in torrents/info."""

    hash: str
    name: str


class MainData(msgspec.Struct, frozen=True):
    """An answer of sync/maindata; a torrent in a partial one has only what changed in it."""

    rid: int
    full_update: bool = False
    torrents: dict[str, dict[str, object]] = {}
    torrents_removed: list[str] = []


class QBittorrent:
    """A session with one qBittorrent, as ``DownloadClient`` says; made by its settings."""

    def __init__(self, http: Http, settings: QBittorrentSettings) -> None:
        self._http = http
        self._settings = settings
        self._rpc = Rpc(http, settings.username, settings.password)
        self._trouble = Trouble(http, self._rpc)
        self._observing = asyncio.Lock()
        self._rid = 0
        self._run: dict[str, str] | None = None  # the session's cookie: it outlives no restart
        self._records: dict[str, dict[str, object]] = {}

    async def version(self) -> str:
        return (await self._rpc.call("GET", "app/version")).words.removeprefix("v")

    async def observe(self) -> Observation:
        async with self._observing:
            # Until this answer is wholly understood, the next question is for everything again.
            rid, self._rid = self._rid, 0
            answer = await self._rpc.call("GET", "sync/maindata", params={"rid": str(rid)})
            data = self._http.decode(answer, MainData)
            if not rid and not data.full_update:
                self._http.misunderstood("asked for everything, it answered with a part")
            self._merge(data)
            troubled = await self._trouble.ask_trackers(self._records)
            items = await self._statuses({*data.torrents, *troubled})
            self._rid = data.rid
        run, self._run = self._run, self._http.cookies("SID")
        if data.full_update:
            return Snapshot(items, restarted=run not in (None, self._run))
        return Delta(items, [ItemId(item.lower()) for item in data.torrents_removed])

    def _merge(self, data: MainData) -> None:
        if data.full_update:
            self._records = {}
        for item, fields in data.torrents.items():
            self._records.setdefault(item, {}).update(fields)
        for item in data.torrents_removed:
            self._records.pop(item, None)

    async def _statuses(self, items: Iterable[str]) -> list[DownloadStatus]:
        try:
            torrents = {item: msgspec.convert(self._records[item], Torrent) for item in items}
        except msgspec.ValidationError as error:
            self._http.misunderstood(str(error), error)
        await self._trouble.explain(torrents)
        return [
            status_of(self._settings.client_name, item, torrent, self._trouble.words(item, torrent))
            for item, torrent in torrents.items()
        ]

    async def add(
        self,
        source: Source,
        *,
        title: str,  # noqa: ARG002 - a torrent brings its own name
        category: str | None,
    ) -> ItemId:
        source = torrent_for("qBittorrent", source)
        hashes = infohashes(source)
        if present := await self._listed(hashes):
            raise ClientRefused(f"qBittorrent already has this download, as {present.name!r}")
        answer = await self._rpc.call("POST", "torrents/add", form=_form(source, category))
        if answer.words.startswith("Fails"):
            raise ClientRefused(
                f"qBittorrent says {answer.words!r}: it cannot use this torrent or magnet link"
            )
        return await self._until_listed(hashes)

    async def pause(self, item: ItemId) -> None:
        await self._must_have(item)
        await self._switch(item, "stop", "pause")

    async def resume(self, item: ItemId) -> None:
        await self._must_have(item)
        await self._switch(item, "start", "resume")

    async def remove(self, item: ItemId, *, delete_files: bool) -> None:
        form = {
            "hashes": one_torrent("qBittorrent", item),
            "deleteFiles": str(delete_files).lower(),
        }
        await self._rpc.call("POST", "torrents/delete", form=lambda: aiohttp.FormData(form))

    async def _switch(self, item: ItemId, verb: str, verb_before_5: str) -> None:
        form = {"hashes": item}
        answer = await self._rpc.call(
            "POST", f"torrents/{verb}", form=lambda: aiohttp.FormData(form)
        )
        if answer.status == 404:
            await self._rpc.call(
                "POST", f"torrents/{verb_before_5}", form=lambda: aiohttp.FormData(form)
            )

    async def _must_have(self, item: ItemId) -> None:
        if not await self._listed([one_torrent("qBittorrent", item)]):
            raise ClientRefused(f"qBittorrent has no download {item}")

    async def _listed(self, hashes: Iterable[str]) -> Listed | None:
        answer = await self._rpc.call("GET", "torrents/info", params={"hashes": "|".join(hashes)})
        return next(iter(self._http.decode(answer, list[Listed])), None)

    async def _until_listed(self, hashes: Iterable[str]) -> ItemId:
        """qBittorrent says Ok. up to 0.1 s before the download is in its list."""
        try:
            async with asyncio.timeout(self._settings.timeout):
                while not (found := await self._listed(hashes)):  # noqa: ASYNC110 - no event there
                    await asyncio.sleep(0.05)
                return ItemId(found.hash.lower())
        except TimeoutError as error:
            raise ClientRefused(
                f"qBittorrent took the download but did not list it in {self._settings.timeout:g} s"
            ) from error


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
