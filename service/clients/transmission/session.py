"""A session with one Transmission: its settings, polls and changes."""

import asyncio
import base64
import contextlib
import time
from collections.abc import AsyncIterator
from typing import Final

import msgspec

from mediabus.schemas.status import DownloadStatus, ItemId, Phase
from mediabus.service.clients.category import checked_category
from mediabus.service.clients.http import (
    Http,
    HttpSettings,
    basic_auth,
    http_session,
)
from mediabus.service.clients.metainfo import leads_elsewhere
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
from mediabus.service.clients.sources import (
    already_present,
    one_torrent,
    refused_torrent,
    torrent_for,
)
from mediabus.service.clients.transmission.rpc import (
    Added,
    CallRefused,
    Session,
    Stats,
    Torrents,
    TransmissionRpc,
    rpc_url,
)
from mediabus.service.clients.transmission.states import (
    CHECKING,
    NAMES,
    STOPPED,
    Torrent,
    status_of,
)

RECENT: Final = 50.0
"""Seconds for which ``recently-active`` includes all changes. Transmission keeps them for 60, and
removals for 59."""

FULL_POLL_EVERY: Final = 300.0
"""Seconds between full polls: a change that ``recently-active`` once omits never appears in it."""

CLOCK: Final = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
"""A clock that continues while this machine is suspended, as Transmission on another host does."""

ROUNDED: Final = 1.0
"""Seconds by which its uptime may be too high: it counts whole seconds."""


class TransmissionSettings(HttpSettings, frozen=True, kw_only=True, tag="transmission"):
    """The settings of a Transmission.

    ``url`` is the host and port, the URL of the web page, or the URL of the RPC, with the path of a
    reverse proxy.
    """

    protocol = "torrent"

    @contextlib.asynccontextmanager
    async def connect(self) -> AsyncIterator[DownloadClient]:
        url = rpc_url(self.url)
        headers = {}
        if self.username or self.password:
            headers["Authorization"] = basic_auth(self.username, self.password)
        async with http_session(url, "Transmission", self, headers) as http:
            yield Transmission(http, self)


class Transmission:
    """A session with one Transmission, opened by ``TransmissionSettings.connect``.

    See ``DownloadClient`` for its contract.
    """

    def __init__(self, http: Http, settings: TransmissionSettings) -> None:
        self._http = http
        self._rpc = TransmissionRpc(http)
        self._settings = settings
        self._observing = asyncio.Lock()
        self._observed: tuple[str, float] | None = None  # the session id and time of the last poll
        self._last: tuple[str, float] | None = None  # the same, also after failed polls
        self._full_poll_at = 0.0  # the time of the last full poll
        self._known: dict[int, Torrent] = {}  # by the ids of this run, which removals name

    async def version(self) -> str:
        session = await self._rpc.call(Session, "session-get", fields=["version"])
        return session.version.partition(" ")[0]

    async def observe(self) -> Observation:
        async with self._observing:
            observed = self._observed
            self._observed = None  # if this poll fails, the next one is a full one
            now = time.clock_gettime(CLOCK)
            seen = await self._recent(observed, now) or await self._everything()
            self._observed = self._last = (self._rpc.session_id, now)
        return seen

    async def _recent(self, observed: tuple[str, float] | None, now: float) -> Delta | None:
        """Return what changed. None if a full poll is due: after a restart, or after too long."""
        if observed is None or observed[0] != self._rpc.session_id or now - observed[1] > RECENT:
            return None
        if now - self._full_poll_at > FULL_POLL_EVERY:
            return None
        answer = await self._rpc.call(Torrents, "torrent-get", ids="recently-active", fields=NAMES)
        if observed[0] != self._rpc.session_id:
            return None
        statuses = [self._status(torrent) for torrent in answer.torrents]
        self._known |= {torrent.id: torrent for torrent in answer.torrents}
        gone = [self._known.pop(number) for number in answer.removed if number in self._known]
        removed = {ItemId(torrent.hash_string.lower()) for torrent in gone}
        # A torrent that was removed and added again has another number and is listed.
        return Delta(statuses, list(removed - {status.item for status in statuses}))

    async def _everything(self) -> Snapshot:
        answer = await self._rpc.torrents()
        restarted = await self._was_restarted()
        self._full_poll_at = time.clock_gettime(CLOCK)
        self._known = {torrent.id: torrent for torrent in answer.torrents}
        client = self._settings.client_name
        statuses = [status_of(client, torrent) for torrent in answer.torrents]
        return Snapshot(statuses, restarted=restarted)

    async def _was_restarted(self) -> bool:
        """Return whether Transmission was started after the last poll.

        A new session id does not prove that: it changes every hour.
        """
        if self._last is None or self._last[0] == self._rpc.session_id:
            return False
        stats = await self._rpc.call(Stats, "session-stats")
        since = time.clock_gettime(CLOCK) - self._last[1]
        return stats.current_stats.seconds_active - ROUNDED <= since

    def _status(self, torrent: Torrent) -> DownloadStatus:
        """Return the status of a torrent, as queued if it is only stopped for a moment.

        A new torrent, and one after a check, is stopped for a moment before it starts.
        """
        status = status_of(self._settings.client_name, torrent)
        before = self._known.get(torrent.id)
        if status.phase is Phase.PAUSED and (before is None or before.status in CHECKING):
            return msgspec.structs.replace(status, phase=Phase.QUEUED)
        return status

    async def add(
        self,
        source: Source,
        *,
        title: str,  # noqa: ARG002 - a torrent contains its name
        category: str | None,
    ) -> ItemId:
        source = torrent_for("Transmission", source)
        category = checked_category("Transmission", category)
        try:
            answer = await self._hand_over(source)
        except CallRefused as error:
            raise refused_torrent(error) from error
        if answer.present:
            raise already_present("Transmission", answer.present.name)
        if answer.added is None:
            self._http.raise_protocol_error("the answer to torrent-add names no torrent")
        item = ItemId(answer.added.hash_string.lower())
        if category:  # torrent-add accepts labels only since 4.0
            await self._rpc.call(dict[str, object], "torrent-set", ids=[item], labels=[category])
        return item

    async def _hand_over(self, source: Magnet | TorrentFile) -> Added:
        if isinstance(source, Magnet):
            return await self._rpc.call(Added, "torrent-add", filename=source.uri)
        metainfo = base64.b64encode(source.content).decode()
        return await self._rpc.call(Added, "torrent-add", metainfo=metainfo)

    async def pause(self, item: ItemId) -> None:
        await self._must_have(item)
        try:
            async with asyncio.timeout(self._settings.timeout):
                await self._stop(item)
        except TimeoutError as error:
            raise ClientRefused(
                "Transmission still checks this download and cannot pause it. Try again later"
            ) from error

    async def _stop(self, item: ItemId) -> None:
        """Stop the torrent until it stays stopped.

        3.00 accepts a stop during a check, as after an add, and starts the download anyway after
        the check. So two polls in a row must find it stopped.
        """
        polls = 0
        while polls < 2:
            await self._rpc.call(dict[str, object], "torrent-stop", ids=[item])
            await asyncio.sleep(0.1)
            answer = await self._rpc.call(Torrents, "torrent-get", ids=[item], fields=NAMES)
            stopped = all(torrent.status == STOPPED for torrent in answer.torrents)
            polls = polls + 1 if stopped else 0

    async def resume(self, item: ItemId) -> None:
        await self._must_have(item)
        await self._rpc.call(dict[str, object], "torrent-start", ids=[item])

    async def remove(self, item: ItemId, *, delete_files: bool) -> None:
        if delete_files:
            await self._must_stay_inside(item)
        arguments = {"ids": [one_torrent("Transmission", item)], "delete-local-data": delete_files}
        await self._rpc.call(dict[str, object], "torrent-remove", **arguments)

    async def _must_stay_inside(self, item: ItemId) -> None:
        """Check that deleting the files of a torrent deletes nothing outside its folder.

        Raises:
            ClientRefused: the name of the torrent leads out of its folder.
        """
        answer = await self._rpc.torrents(ids=[one_torrent("Transmission", item)])
        for torrent in answer.torrents:
            if leads_elsewhere(torrent.name):
                raise ClientRefused(
                    f"This torrent is named {torrent.name!r}: Transmission would delete other"
                    " files. Remove the download without its files"
                )

    async def _must_have(self, item: ItemId) -> None:
        """Check that the torrent exists: Transmission reports success for unknown ones.

        Raises:
            ClientRefused: it does not exist.
        """
        answer = await self._rpc.torrents(ids=[one_torrent("Transmission", item)])
        if not answer.torrents:
            raise ClientRefused(f"Transmission has no download {item}")
