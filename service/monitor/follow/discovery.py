"""Discover untracked downloads: insert a row and emit an event for each."""

import asyncio
import dataclasses
import datetime
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, Protocol
from uuid import UUID

from mediabus.runtime import tracing
from mediabus.runtime.postgres.database import Pool
from mediabus.schemas.envelope import Envelope
from mediabus.schemas.events import DownloadDiscovered
from mediabus.schemas.fitting import fitted
from mediabus.schemas.identity import Resource, uuid7
from mediabus.schemas.operations.requests import DownloadState
from mediabus.schemas.status import DownloadStatus, ItemId, Phase
from mediabus.schemas.status import Protocol as DownloadProtocol
from mediabus.service.apps.history.grabs import Grab, grab_of
from mediabus.service.downloads import table
from mediabus.service.downloads.row import MONITOR, NewDownload
from mediabus.service.monitor.follow.lifecycle import Hold
from mediabus.service.monitor.follow.release import release_of
from mediabus.service.outbox.outbox import Outbox

log: Final = logging.getLogger("mediabus.monitor")

ADDING_LASTS: Final = 2.0
"""Seconds to wait while mediabus is adding a download whose id it does not know yet."""

PATIENCE: Final = (1, 4, 16, 64)
"""Factors of the waiting time after one, two, three and more removals within an hour."""

FIRST_CONTACT_LASTS: Final = 60.0
"""Seconds after a client's first contact in which completed downloads count as old ones."""

MET_AT: Final = "SELECT met_at FROM download_clients WHERE name = $1"
MATCH: Final = """
SELECT id, title FROM media_items
WHERE type = $1 AND normal_title(title) = normal_title($2) AND ($3::integer IS NULL OR year = $3)
LIMIT 2
"""


Sighted = Callable[[], Awaitable[None]]
"""Makes applications be read, so that a download that one of them grabbed is known as such."""


@dataclasses.dataclass(frozen=True)
class _Sighting:
    """When an untracked download was first seen, and for how many seconds it must be listed.

    ``at`` is in seconds of the event loop's clock, ``shown_at`` the time of the first status.
    """

    at: float
    shown_at: datetime.datetime
    patience: float


class Listing(Protocol):
    """The latest list of a client."""

    def lists(self, item: ItemId, *, since: float) -> bool:
        """Return whether a poll after ``since`` (event loop time) listed the item."""

    def poll_soon(self) -> float:
        """Request a poll. Returns the seconds in which it is expected to be done."""


class Discovery:
    """Discover the untracked downloads of one client.

    A download must be listed for ``after`` seconds. ``names`` are those of all clients in the
    settings; a reload changes them. ``sighted`` is called when a download is first seen.
    """

    def __init__(
        self,
        pool: Pool,
        outbox: Outbox,
        listing: Listing,
        *,
        protocol: DownloadProtocol,
        after: float,
        names: Sequence[str],
        sighted: Sighted | None = None,
    ) -> None:
        self._pool = pool
        self._outbox = outbox
        self._listing = listing
        self._protocol: DownloadProtocol = protocol
        self._after = after
        self._names = names
        self._sighted = sighted
        self._first_seen: dict[ItemId, _Sighting] = {}

    def forget(self, item: ItemId) -> None:
        """Forget an item that is gone or tracked."""
        self._first_seen.pop(item, None)

    async def consider(self, seen: DownloadStatus, shown_at: datetime.datetime) -> Hold | None:
        """Discover the download if it has been listed long enough.

        Returns when to check again, or None.
        """
        now = asyncio.get_running_loop().time()
        if seen.aliases and await self._has_another_id(seen):
            return Hold(0.1)
        if seen.item not in self._first_seen and await self._is_adopted(seen):
            return Hold(0.1)  # it has a row now
        first = self._first_seen.get(seen.item)
        if first is None:
            first = _Sighting(now, shown_at, await self._patience(seen))
            self._first_seen[seen.item] = first
            if self._sighted is not None:
                await self._sighted()
        if now < first.at + first.patience:
            return Hold(first.at + first.patience - now)
        # The bucket keeps a missing download for a while, so check the client's own list.
        if not self._listing.lists(seen.item, since=first.at + first.patience):
            return Hold(self._listing.poll_soon())
        if await table.is_adding(self._pool, seen.client):
            return Hold(ADDING_LASTS)
        await self._discover(seen, first.shown_at)
        self.forget(seen.item)
        return Hold(0.1)  # the lifecycle now applies

    async def _patience(self, seen: DownloadStatus) -> float:
        """Return the seconds for which the download must be listed.

        Recent removals increase them: otherwise a client that lists a download intermittently would
        create a new one each time.
        """
        removed = await table.recent_removals(self._pool, seen.client, seen.item)
        again = min(max(removed - 1, 0), len(PATIENCE) - 1)
        return self._after * PATIENCE[again]

    async def _is_adopted(self, seen: DownloadStatus) -> bool:
        """Move the download of a renamed client to its new name, if it was known by the old one."""
        old = await table.adopt(self._pool, seen, self._protocol, self._names)
        if old is not None:
            names = {"client": seen.client, "before": old, "item": seen.item}
            log.info("client was renamed, download moved to its new name", extra=names)
        return old is not None

    async def _has_another_id(self, seen: DownloadStatus) -> bool:
        """Move the download to its new id, if it was known by one of its aliases."""
        old = await table.rebind(self._pool, seen)
        if old is not None:
            ids = {"client": seen.client, "before": old, "item": seen.item}
            log.info("download has a new id", extra=ids)
        return old is not None

    async def _media_item(self, name: str) -> tuple[UUID, str] | None:
        """Return the media item if the release name matches exactly one."""
        release = await asyncio.to_thread(release_of, name)
        if release is None:
            return None
        rows = await self._pool.fetch(MATCH, release.type, release.title, release.year)
        return (rows[0]["id"], rows[0]["title"]) if len(rows) == 1 else None

    async def _discover(self, seen: DownloadStatus, shown_at: datetime.datetime) -> None:
        grab = await grab_of(self._pool, (seen.item, *seen.aliases))
        media_item = (grab and grab.media_item) or await self._media_item(seen.title)
        state = await self._state(seen, shown_at)
        if await self._insert(seen, state, media_item, grab) or media_item is None:
            return
        # Another release of the media item is being downloaded already.
        await self._insert(seen, state, None, grab)

    async def _insert(
        self,
        seen: DownloadStatus,
        state: DownloadState,
        media_item: tuple[UUID, str] | None,
        grab: Grab | None,
    ) -> bool:
        event = self._event(seen, media_item, grab)
        new = NewDownload(
            id=event.download_id,
            title=seen.title,
            state=state,
            client=seen.client,
            client_item=seen.item,
            protocol=self._protocol,
            category=seen.category,
            media_item_id=event.media_item_id,
            size=seen.size,
            save_path=seen.save_path,
            indexer=event.indexer,
            correlation_id=grab.correlation_id if grab else None,
            app=event.app,
            failed_at=grab.failed_at if grab else None,
            aliases=seen.aliases,
        )
        with tracing.transition(event.type):
            envelope = Envelope.of(
                fitted(event),
                actor=MONITOR,
                resource=_resource(event),
                correlation_id=new.correlation_id,
            )
            return await table.insert_discovered(self._outbox, new, envelope)

    def _event(
        self, seen: DownloadStatus, media_item: tuple[UUID, str] | None, grab: Grab | None
    ) -> DownloadDiscovered:
        media_item_id, media_title = media_item or (None, None)
        return DownloadDiscovered(
            download_id=uuid7(),
            title=seen.title,
            client=seen.client,
            client_item=seen.item,
            indexer=grab.indexer if grab else None,
            protocol=self._protocol,
            size=seen.size,
            media_item_id=media_item_id,
            media_title=media_title,
            app=grab.app if grab else None,
        )

    async def _state(self, seen: DownloadStatus, shown_at: datetime.datetime) -> DownloadState:
        """Return the initial state.

        A download that was complete before the client's first contact is only discovered: it emits
        no ``download.completed``.
        """
        met_at = await self._pool.fetchval(MET_AT, seen.client)
        first_contact = datetime.timedelta(seconds=FIRST_CONTACT_LASTS)
        is_old = met_at is not None and shown_at - met_at < first_contact
        return "completed" if is_old and seen.phase is Phase.COMPLETED else "active"


def _resource(event: DownloadDiscovered) -> Resource:
    """Return the media item of a download if it has one, else the download."""
    if event.media_item_id:
        return Resource("media_item", str(event.media_item_id))
    return Resource("download", str(event.download_id))
