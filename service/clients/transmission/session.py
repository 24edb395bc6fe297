"""Transmission 3.x and 4.x over its RPC, in the old dialect that all of them speak.

What is said here of its behaviour was seen on 3.00 and 4.1.0-beta.2; the RPC is described in the
project's docs/rpc-spec.md. 4.1 has a newer dialect (JSON-RPC 2.0) beside this one.
"""

import asyncio
import base64
import contextlib
import time
from collections.abc import AsyncIterator
from typing import Final, TypeVar

import msgspec
from yarl import URL

from schemas.status import ClientName, DownloadStatus, ItemId, Phase
from service.clients.http import (
    Answer,
    Http,
    HttpSettings,
    Patience,
    base_url,
    basic_auth,
    http_session,
)
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
from service.clients.reasons import failure_reason
from service.clients.sources import one_torrent, torrent_for

T = TypeVar("T")

STOPPED: Final = 0

STATES: Final[dict[int, tuple[str, Phase]]] = {
    STOPPED: ("stopped", Phase.PAUSED),
    1: ("check queued", Phase.CHECKING),
    2: ("checking", Phase.CHECKING),
    3: ("download queued", Phase.QUEUED),
    4: ("downloading", Phase.DOWNLOADING),  # no byte for the first 10 s is normal
    5: ("seed queued", Phase.COMPLETED),
    6: ("seeding", Phase.COMPLETED),
}
"""tr_torrent_activity and what each means by itself; ``phase_of`` knows what overrules it."""

CHECKING: Final = (1, 2)

LOCAL_ERROR: Final = 3
"""``error``: 0 none, 1 and 2 a tracker's warning and error (the download goes on), 3 our disk's."""

RECENT: Final = 50.0
"""Seconds for which what is recently active is all that changed; Transmission keeps 60, and what
was removed 59."""

CLOCK: Final = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
"""A clock that goes on while this machine is suspended, as Transmission elsewhere does."""

ROUNDED: Final = 1.0
"""Seconds by which it may say that it runs for longer than it does: it counts whole ones."""

SETTLING: Final = 0.5
"""Seconds. 3.00 answers with no torrents at all for 60 to 200 ms after its start, until it has
loaded them: an empty answer that early is asked for again."""

SESSION_ID: Final = "X-Transmission-Session-Id"


class TransmissionSettings(HttpSettings, frozen=True, kw_only=True, tag="transmission"):
    """``url`` is that of the host and port, of the web page or of the RPC, as a reverse proxy may
    move them: all three are understood."""

    protocol = "torrent"

    @contextlib.asynccontextmanager
    async def connect(self) -> AsyncIterator[DownloadClient]:
        url = rpc_url(self.url)
        headers = {}
        if self.username or self.password:
            headers["Authorization"] = basic_auth(self.username, self.password)
        async with http_session(url, "Transmission", self, headers) as http:
            yield Transmission(http, self)


def rpc_url(text: str) -> URL:
    """Where the RPC is: at ``/transmission/rpc`` unless the address says otherwise."""
    url = base_url(text)
    if url.path.endswith("/rpc"):
        return url
    url = url.with_path(url.path.removesuffix("/web"))
    return url / "rpc" if url.path.endswith("/transmission") else url / "transmission" / "rpc"


class Torrent(msgspec.Struct, frozen=True, rename="camel"):
    """The fields of torrent-get that are asked for: these and no more."""

    id: int
    hash_string: str
    name: str
    status: int
    error: int
    error_string: str
    percent_done: float
    metadata_percent_complete: float
    size_when_done: int
    left_until_done: int
    uploaded_ever: int
    rate_download: int
    rate_upload: int
    eta: int
    download_dir: str
    labels: list[str] = []


FIELDS: Final = msgspec.structs.fields(Torrent)
NAMES: Final = [field.encode_name for field in FIELDS]


class Torrents(msgspec.Struct, frozen=True):
    """The arguments of a torrent-get's answer; ``removed`` has the ids of this run."""

    torrents: list[Torrent]
    removed: list[int] = []


class Listed(msgspec.Struct, frozen=True, rename="camel"):
    """A torrent's name and hash, as answers to torrent-add have them too."""

    hash_string: str
    name: str


class Added(
    msgspec.Struct, frozen=True, rename={"added": "torrent-added", "present": "torrent-duplicate"}
):
    """The arguments of a torrent-add's answer: one of the two."""

    added: Listed | None = None
    present: Listed | None = None


class ThisRun(msgspec.Struct, frozen=True, rename="camel"):
    """Of the statistics of this run, what matters here."""

    seconds_active: int


class Stats(msgspec.Struct, frozen=True, rename="kebab"):
    """Of session-stats, what matters here."""

    current_stats: ThisRun


class Session(msgspec.Struct, frozen=True):
    """Of session-get, what matters here."""

    version: str


class Reply(msgspec.Struct, frozen=True):
    """Every answer's frame; ``result`` is ``success`` or what is wrong."""

    result: str
    arguments: msgspec.Raw = msgspec.Raw(b"{}")


def phase_of(torrent: Torrent) -> Phase:
    """What the torrent does. ``percentDone`` is 1 without metadata too: it says nothing then."""
    _, phase = STATES.get(torrent.status, ("", Phase.UNKNOWN))
    if torrent.error == LOCAL_ERROR:
        return Phase.FAILED
    if torrent.metadata_percent_complete < 1:
        return Phase.METADATA if phase in (Phase.DOWNLOADING, Phase.COMPLETED) else phase
    if phase is Phase.PAUSED and torrent.percent_done >= 1:
        return Phase.COMPLETED
    return phase


def status_of(client: ClientName, torrent: Torrent) -> DownloadStatus:
    """The torrent's record in the vocabulary of all clients."""
    phase = phase_of(torrent)
    known = torrent.metadata_percent_complete >= 1
    word, _ = STATES.get(torrent.status, (str(torrent.status), phase))
    return DownloadStatus(
        client=client,
        item=ItemId(torrent.hash_string.lower()),
        title=torrent.name,
        phase=phase,
        progress=min(max(torrent.percent_done, 0.0), 1.0) if known else 0.0,
        size=torrent.size_when_done if known else None,
        downloaded=max(torrent.size_when_done - torrent.left_until_done, 0) if known else 0,
        uploaded=torrent.uploaded_ever,
        download_rate=torrent.rate_download,
        upload_rate=torrent.rate_upload,
        eta=torrent.eta if torrent.eta >= 0 else None,
        save_path=torrent.download_dir or None,
        category=next(iter(torrent.labels), None),
        reason=failure_reason(torrent.error_string) if phase is Phase.FAILED else None,
        message=torrent.error_string or None,
        client_state=word,
    )


class Transmission:
    """A session with one Transmission, as ``DownloadClient`` says; made by its settings."""

    def __init__(self, http: Http, settings: TransmissionSettings) -> None:
        self._http = http
        self._settings = settings
        self._patience = Patience()
        self._session_id = ""
        self._met = -SETTLING  # when that session id was new to us
        self._observing = asyncio.Lock()
        self._observed: tuple[str, float] | None = None  # in which session of its, and when
        self._last: tuple[str, float] | None = None  # the same, and kept over an outage
        self._known: dict[int, Torrent] = {}  # by the ids of this run, which removals name

    async def version(self) -> str:
        session = await self._ask(Session, "session-get", fields=["version"])
        return session.version.partition(" ")[0]

    async def observe(self) -> Observation:
        async with self._observing:
            # Until this answer is wholly understood, the next question is for everything again.
            observed, self._observed = self._observed, None
            now = time.clock_gettime(CLOCK)
            seen = await self._recent(observed, now) or await self._everything()
            self._observed = self._last = (self._session_id, now)
        return seen

    async def _recent(self, observed: tuple[str, float] | None, now: float) -> Delta | None:
        """What changed, or None if Transmission cannot say: after a restart, or too long ago."""
        if observed is None or observed[0] != self._session_id or now - observed[1] > RECENT:
            return None
        answer = await self._ask(Torrents, "torrent-get", ids="recently-active", fields=NAMES)
        if observed[0] != self._session_id:
            return None
        statuses = [self._status(torrent) for torrent in answer.torrents]
        self._known |= {torrent.id: torrent for torrent in answer.torrents}
        gone = [self._known.pop(number) for number in answer.removed if number in self._known]
        removed = {ItemId(torrent.hash_string.lower()) for torrent in gone}
        # What was added again since has another number, and is there.
        return Delta(statuses, list(removed - {status.item for status in statuses}))

    async def _everything(self) -> Snapshot:
        answer = await self._settled()
        restarted = await self._was_restarted()
        self._known = {torrent.id: torrent for torrent in answer.torrents}
        statuses = [status_of(self._settings.client_name, it) for it in answer.torrents]
        return Snapshot(statuses, restarted=restarted)

    async def _was_restarted(self) -> bool:
        """Whether it runs for less long than since the last look. A new session id by itself does
        not say so: there is one every hour."""
        if self._last is None or self._last[0] == self._session_id:
            return False
        stats = await self._ask(Stats, "session-stats")
        since = time.clock_gettime(CLOCK) - self._last[1]
        return stats.current_stats.seconds_active - ROUNDED <= since

    def _status(self, torrent: Torrent) -> DownloadStatus:
        """Its status, but not yet paused at the first sight of it as stopped when it is new or was
        being checked: it is stopped for a moment then, before it starts."""
        status = status_of(self._settings.client_name, torrent)
        before = self._known.get(torrent.id)
        if status.phase is Phase.PAUSED and (before is None or before.status in CHECKING):
            return msgspec.structs.replace(status, phase=Phase.QUEUED)
        return status

    async def add(
        self,
        source: Source,
        *,
        title: str,  # noqa: ARG002 - a torrent brings its own name
        category: str | None,
    ) -> ItemId:
        source = torrent_for("Transmission", source)
        if isinstance(source, Magnet):
            answer = await self._ask(Added, "torrent-add", filename=source.uri)
        else:
            metainfo = base64.b64encode(source.content).decode()
            answer = await self._ask(Added, "torrent-add", metainfo=metainfo)
        if answer.present:
            raise ClientRefused(
                f"Transmission already has this download, as {answer.present.name!r}"
            )
        if answer.added is None:
            self._http.misunderstood("an added torrent has no name")
        item = ItemId(answer.added.hash_string.lower())
        if category:  # torrent-add itself knows labels since 4.0 only
            await self._ask(dict[str, object], "torrent-set", ids=[item], labels=[category])
        return item

    async def pause(self, item: ItemId) -> None:
        await self._must_have(item)
        try:
            async with asyncio.timeout(self._settings.timeout):
                await self._stop(item)
        except TimeoutError as error:
            raise ClientRefused(
                "Transmission still checks this download and does not stop it; try again later"
            ) from error

    async def _stop(self, item: ItemId) -> None:
        """3.00 takes a stop while it checks, as it does after an add, and starts the download all
        the same once it has checked: so a stop counts when it is seen to last."""
        looks = 0
        while looks < 2:
            await self._ask(dict[str, object], "torrent-stop", ids=[item])
            await asyncio.sleep(0.1)
            answer = await self._ask(Torrents, "torrent-get", ids=[item], fields=NAMES)
            stopped = all(torrent.status == STOPPED for torrent in answer.torrents)
            looks = looks + 1 if stopped else 0

    async def resume(self, item: ItemId) -> None:
        await self._must_have(item)
        await self._ask(dict[str, object], "torrent-start", ids=[item])

    async def remove(self, item: ItemId, *, delete_files: bool) -> None:
        arguments = {"ids": [one_torrent("Transmission", item)], "delete-local-data": delete_files}
        await self._ask(dict[str, object], "torrent-remove", **arguments)

    async def _must_have(self, item: ItemId) -> None:
        """Transmission says success to any command for a torrent that it does not have."""
        answer = await self._settled(ids=[one_torrent("Transmission", item)])
        if not answer.torrents:
            raise ClientRefused(f"Transmission has no download {item}")

    async def _settled(self, **which: object) -> Torrents:
        """The torrents asked for, once a Transmission that has just started has loaded them."""
        answer = await self._ask(Torrents, "torrent-get", fields=NAMES, **which)
        settled = self._met + SETTLING
        if answer.torrents or time.monotonic() > settled:
            return answer
        await asyncio.sleep(settled - time.monotonic())
        return await self._ask(Torrents, "torrent-get", fields=NAMES, **which)

    async def _ask(self, kind: type[T], method: str, **arguments: object) -> T:
        """The arguments of the answer to one call, as a ``kind``."""
        self._patience.check()
        body = msgspec.json.encode({"method": method, "arguments": arguments})
        for _ in range(2):
            answer = await self._http.call(
                "POST",
                "",
                repeatable=method != "torrent-add",
                data=body,
                headers={SESSION_ID: self._session_id},
            )
            if answer.status != 409:
                break
            # Its protection against forged requests: a new id now, after a restart, every hour.
            self._session_id = answer.headers.get(SESSION_ID, "")
            self._met = time.monotonic()
        self._must_be_let_in(answer)
        reply = self._http.decode(answer, Reply)
        if reply.result != "success":
            raise ClientRefused(f"Transmission says {reply.result!r}")
        return self._http.decode(Answer(200, {}, bytes(reply.arguments)), kind)

    def _must_be_let_in(self, answer: Answer) -> None:
        if answer.status == 401:
            raise self._patience.refused(
                ClientUnavailable("authentication", "Transmission refused username or password")
            )
        if answer.status == 403:  # an address not in its whitelist, or too many wrong passwords
            banned = "attempts" in answer.words
            raise self._patience.refused(
                ClientUnavailable("banned" if banned else "authentication", answer.words)
            )
        if answer.status != 200:
            self._http.misunderstood(f"HTTP {answer.status} {answer.words}")
        self._patience.accepted()
