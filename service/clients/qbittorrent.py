"""qBittorrent 4.x and 5.x over its Web API.

What is said here of its behaviour was seen on 4.5.2 and 5.1.0, of 5.2 read in its source; the API
is described in the project's wiki, "WebUI API".
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterable
from typing import Final

import aiohttp
import msgspec

from schemas.status import ClientName, DownloadStatus, FailureReason, ItemId, Phase
from service.clients.http import Answer, Http, Patience, base_url, http_session
from service.clients.port import (
    ClientRefused,
    ClientUnavailable,
    Delta,
    DownloadClient,
    Magnet,
    Observation,
    Snapshot,
    Source,
    TorrentFile,
)
from service.clients.reasons import failure_reason
from service.clients.settings import ClientSettings
from service.clients.sources import infohashes, one_torrent, torrent_for

STATES: Final[dict[str, Phase]] = {
    "allocating": Phase.CHECKING,
    "checkingDL": Phase.CHECKING,
    "checkingResumeData": Phase.CHECKING,  # at every start and add, with progress 0
    "checkingUP": Phase.CHECKING,  # all is there, if the check says so: not completed yet
    "downloading": Phase.DOWNLOADING,
    "error": Phase.FAILED,
    "forcedDL": Phase.DOWNLOADING,
    "forcedMetaDL": Phase.METADATA,
    "forcedUP": Phase.COMPLETED,
    "metaDL": Phase.METADATA,
    "missingFiles": Phase.FAILED,
    "moving": Phase.MOVING,  # hides error and paused
    "pausedDL": Phase.PAUSED,
    "pausedUP": Phase.COMPLETED,
    "queuedDL": Phase.QUEUED,
    "queuedUP": Phase.COMPLETED,
    "stalledDL": Phase.DOWNLOADING,  # also normal between the start and the first data
    "stalledUP": Phase.COMPLETED,
    "stoppedDL": Phase.PAUSED,  # pausedDL since 5.0
    "stoppedUP": Phase.COMPLETED,  # pausedUP since 5.0; also when a share limit is reached
    "unknown": Phase.UNKNOWN,
    "uploading": Phase.COMPLETED,
}
"""TorrentState as the Web API spells it (serialize_torrent.cpp), 4.1 to 5.2."""

ENDLESS: Final = 8_640_000
"""The eta, in seconds, that stands for no end in sight."""

MISSING_FILES: Final = "files are missing; put them back and recheck, or remove the download"
DISK_ERROR: Final = "the client stopped it after a disk error; the client's own log says more"


class QBittorrentSettings(ClientSettings, frozen=True, kw_only=True, tag="qbittorrent"):
    """``url`` is that of the web page, with the path if a reverse proxy adds one. Without username
    and password the client must let us in by our address."""

    protocol = "torrent"

    def __post_init__(self) -> None:
        base_url(self.url)

    @contextlib.asynccontextmanager
    async def connect(self) -> AsyncIterator[DownloadClient]:
        base = base_url(self.url)
        async with http_session(base, "qBittorrent", timeout=self.timeout) as http:
            yield QBittorrent(http, self)


class Torrent(msgspec.Struct, frozen=True):
    """What a torrent's whole record must have; the rest of its fifty fields is not for us."""

    name: str
    state: str
    progress: float = 0.0
    size: int = 0  # of the files that are wanted; -1 or 0 without metadata
    completed: int = 0
    uploaded: int = 0
    dlspeed: int = 0
    upspeed: int = 0
    eta: int = ENDLESS
    save_path: str = ""
    category: str = ""


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


class LogLine(msgspec.Struct, frozen=True):
    """A line of log/main."""

    message: str


def status_of(client: ClientName, item: str, torrent: Torrent, why: str = "") -> DownloadStatus:
    """The torrent's record in the vocabulary of all clients; ``why`` is what the log says of a
    torrent in error."""
    phase = STATES.get(torrent.state, Phase.UNKNOWN)
    reason, message = _failure(torrent.state, why) if phase is Phase.FAILED else (None, None)
    return DownloadStatus(
        client=client,
        item=ItemId(item.lower()),
        title=torrent.name,
        phase=phase,
        progress=min(max(torrent.progress, 0.0), 1.0),
        size=torrent.size if torrent.size > 0 else None,
        downloaded=max(torrent.completed, 0),
        uploaded=torrent.uploaded,
        download_rate=torrent.dlspeed,
        upload_rate=torrent.upspeed,
        eta=torrent.eta if 0 <= torrent.eta < ENDLESS else None,
        save_path=torrent.save_path or None,
        category=torrent.category or None,
        reason=reason,
        message=message,
        client_state=torrent.state,
    )


def _failure(state: str, why: str) -> tuple[FailureReason, str]:
    if state == "missingFiles":
        return "missing_files", MISSING_FILES
    return failure_reason(why), why or DISK_ERROR


class QBittorrent:
    """A session with one qBittorrent, as ``DownloadClient`` says; made by its settings."""

    def __init__(self, http: Http, settings: QBittorrentSettings) -> None:
        self._http = http
        self._settings = settings
        self._patience = Patience()
        self._door = asyncio.Lock()
        self._logins = 0
        self._observing = asyncio.Lock()
        self._rid = 0
        self._run: dict[str, str] | None = None  # the session's cookie: it outlives no restart
        self._records: dict[str, dict[str, object]] = {}
        self._explained: dict[str, str] = {}  # torrents in error and what the log says of them

    async def version(self) -> str:
        return (await self._call("GET", "app/version")).words.removeprefix("v")

    async def observe(self) -> Observation:
        async with self._observing:
            # Until this answer is wholly understood, the next question is for everything again.
            rid, self._rid = self._rid, 0
            answer = await self._call("GET", "sync/maindata", params={"rid": str(rid)})
            data = self._http.decode(answer, MainData)
            if not rid and not data.full_update:
                self._http.misunderstood("asked for everything, it answered with a part")
            self._merge(data)
            items = await self._statuses(data.torrents)
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
        await self._explain(torrents)
        return [
            status_of(self._settings.client_name, item, torrent, self._explained.get(item, ""))
            for item, torrent in torrents.items()
        ]

    async def _explain(self, torrents: dict[str, Torrent]) -> None:
        """Why torrents are in error is only in the log, asked only when one is newly so."""
        failed = {item: torrent for item, torrent in torrents.items() if torrent.state == "error"}
        for item in torrents.keys() - failed.keys():
            self._explained.pop(item, None)
        unexplained = failed.keys() - self._explained.keys()
        if not unexplained:
            return
        answer = await self._call("GET", "log/main", params={"normal": "false", "info": "false"})
        lines = [line.message for line in self._http.decode(answer, list[LogLine])]
        for item in unexplained:
            name = failed[item].name
            found = next((line for line in reversed(lines) if name in line), None)
            if found is not None:
                self._explained[item] = found

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
        answer = await self._call("POST", "torrents/add", form=_form(source, category))
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
        await self._call("POST", "torrents/delete", form=lambda: aiohttp.FormData(form))

    async def _switch(self, item: ItemId, verb: str, verb_before_5: str) -> None:
        form = {"hashes": item}
        answer = await self._call("POST", f"torrents/{verb}", form=lambda: aiohttp.FormData(form))
        if answer.status == 404:
            await self._call(
                "POST", f"torrents/{verb_before_5}", form=lambda: aiohttp.FormData(form)
            )

    async def _must_have(self, item: ItemId) -> None:
        if not await self._listed([one_torrent("qBittorrent", item)]):
            raise ClientRefused(f"qBittorrent has no download {item}")

    async def _listed(self, hashes: Iterable[str]) -> Listed | None:
        answer = await self._call("GET", "torrents/info", params={"hashes": "|".join(hashes)})
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

    async def _call(
        self,
        method: str,
        path: str,
        *,
        params: dict[str, str] | None = None,
        form: Callable[[], aiohttp.FormData] | None = None,
    ) -> Answer:
        """One call, after logging in if need be. A form is made anew for each try."""
        for _ in range(2):
            logins = self._logins
            answer = await self._http.call(
                method,
                f"api/v2/{path}",
                repeatable=form is None,
                params=params,
                data=form() if form else None,
            )
            if answer.status not in (401, 403):
                return self._accepted(path, answer)
            await self._log_in(unless_since=logins)
        raise ClientUnavailable(
            "authentication", f"qBittorrent takes the password but not the session: {answer.words}"
        )

    def _accepted(self, path: str, answer: Answer) -> Answer:
        if answer.status in (400, 409, 415):  # 415: not a torrent; 409: none added (5.2)
            raise ClientRefused(f"qBittorrent says no (HTTP {answer.status}): {answer.words}")
        if answer.status == 404 and path not in ("torrents/stop", "torrents/start"):
            self._http.misunderstood("HTTP 404; is the path in url right?")
        return answer

    async def _log_in(self, *, unless_since: int) -> None:
        """A new cookie, unless another call has fetched one since ``unless_since`` logins."""
        async with self._door:
            if self._logins != unless_since:
                return
            self._patience.check()
            form = {"username": self._settings.username, "password": self._settings.password}
            if not any(form.values()):
                raise ClientUnavailable(
                    "authentication", "qBittorrent asks for a password; set one"
                )
            answer = await self._http.call("POST", "api/v2/auth/login", data=form)
            if answer.status == 204 or (answer.status == 200 and answer.words == "Ok."):
                self._patience.accepted()
                self._logins += 1
            elif answer.status == 403:
                raise self._patience.refused(ClientUnavailable("banned", answer.words))
            elif answer.status in (200, 401):
                raise self._patience.refused(
                    ClientUnavailable("authentication", "qBittorrent refused username or password")
                )
            else:
                self._http.misunderstood(f"HTTP {answer.status} to a login")


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
