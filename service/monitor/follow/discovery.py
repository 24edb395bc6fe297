"""Downloads that were added in the client itself: noticed, given a row, and told."""

import asyncio
import datetime
import logging
from collections.abc import Sequence
from typing import Final
from uuid import UUID

from schemas.commands import DownloadState
from schemas.envelope import Envelope
from schemas.events import DownloadDiscovered
from schemas.identity import Resource, uuid7
from schemas.status import DownloadStatus, ItemId, Phase, Protocol
from service.downloads.row import MONITOR
from service.monitor.lifecycle import Hold
from service.monitor.release import release_of
from service.outbox.outbox import Outbox
from service.runtime.database import Pool

log: Final = logging.getLogger("mediabus.monitor")

ADDING_LASTS: Final = 2.0
"""Seconds to wait while mediabus itself is adding something whose id is not known yet."""

FIRST_MEETING_LASTS: Final = 60.0
"""Seconds after a client was first met in which what is complete there was so before."""

# No row of one of these names may wait for its id: it could be the one that has turned up.
IS_ADDING: Final = """
SELECT EXISTS (SELECT FROM downloads WHERE client = $1 AND state = 'initiating'
               AND client_item IS NULL AND asked_at > now() - interval '2 minutes')
"""
MET_AT: Final = "SELECT met_at FROM download_clients WHERE name = $1"
MATCH: Final = """
SELECT id, title FROM media_items
WHERE type = $1 AND normal_title(title) = normal_title($2) AND ($3::integer IS NULL OR year = $3)
LIMIT 2
"""
# The same item in a client that the settings no longer know. NZBGet counts its ids from 1: what is
# from usenet must have the same size too.
ADOPT: Final = """
WITH known AS (
    SELECT d.client, d.state FROM downloads AS d
    JOIN download_clients AS c ON c.name = d.client AND c.name <> ALL($3)
    WHERE d.client_item = $2 AND d.protocol = $4 AND (d.protocol = 'torrent' OR d.size = $5)
    ORDER BY d.id DESC LIMIT 1
)
UPDATE downloads AS d SET client = $1 FROM known
WHERE d.client = known.client AND d.client_item = $2 AND known.state NOT IN ('removed', 'cancelled')
RETURNING known.client AS old_name
"""
INSERT: Final = """
WITH op AS (
    INSERT INTO downloads (id, title, state, client, client_item, protocol, category, size,
                           save_path, media_item_id, completed_at)
    VALUES ($5, $6, $7, $8, $9, $10, $11, $12, $13, $14,
            CASE WHEN $7 = 'completed' THEN now() END)
    ON CONFLICT DO NOTHING RETURNING id
)
SELECT record_events($1, $2, $3, $4) AS recorded FROM op
"""


class Discovery:
    """Notices the strangers of one client. ``after`` in seconds that one must have been there,
    ``names`` those of all clients of the settings."""

    def __init__(
        self,
        pool: Pool,
        outbox: Outbox,
        *,
        protocol: Protocol,
        after: float,
        names: Sequence[str],
    ) -> None:
        self._pool = pool
        self._outbox = outbox
        self._protocol: Protocol = protocol
        self._after = after
        self._names = names
        self._first_seen: dict[ItemId, tuple[float, datetime.datetime]] = {}

    def forget(self, item: ItemId) -> None:
        """It is gone, or no stranger any more."""
        self._first_seen.pop(item, None)

    async def take(self, seen: DownloadStatus, shown_at: datetime.datetime) -> Hold | None:
        """Tells of a stranger once it has been there for long enough."""
        now = asyncio.get_running_loop().time()
        if seen.item not in self._first_seen and await self._is_adopted(seen):
            return Hold(0.1)  # it has a row now: look again
        since, shown_at = self._first_seen.setdefault(seen.item, (now, shown_at))
        if now - since < self._after:
            return Hold(self._after - (now - since))
        if await self._pool.fetchval(IS_ADDING, seen.client):
            return Hold(ADDING_LASTS)
        await self._tell(seen, shown_at, await self._media_item(seen.title))
        self.forget(seen.item)
        return Hold(0.1)  # its row now says where it is in its life: look again

    async def _is_adopted(self, seen: DownloadStatus) -> bool:
        """Whether it was known under a name that its client had before: it goes on by the new."""
        rows = await self._pool.fetch(
            ADOPT, seen.client, seen.item, self._names, self._protocol, seen.size
        )
        if rows:
            names = {"client": seen.client, "before": rows[0]["old_name"], "item": seen.item}
            log.info("client was renamed: a download goes on", extra=names)
        return bool(rows)

    async def _media_item(self, name: str) -> tuple[UUID, str] | None:
        """The one media item that the name is of, beyond doubt."""
        release = await asyncio.to_thread(release_of, name)
        if release is None:
            return None
        rows = await self._pool.fetch(MATCH, release.type, release.title, release.year)
        return (rows[0]["id"], rows[0]["title"]) if len(rows) == 1 else None

    async def _tell(
        self,
        seen: DownloadStatus,
        shown_at: datetime.datetime,
        media_item: tuple[UUID, str] | None,
    ) -> None:
        state = await self._state(seen, shown_at)
        if await self._insert(seen, state, media_item) or media_item is None:
            return
        # The media item is being downloaded already: this one is another of its releases.
        await self._insert(seen, state, None)

    async def _insert(
        self, seen: DownloadStatus, state: DownloadState, media_item: tuple[UUID, str] | None
    ) -> bool:
        download_id = uuid7()
        media_item_id, media_title = media_item or (None, None)
        event = DownloadDiscovered(
            download_id=download_id,
            title=seen.title,
            client=seen.client,
            client_item=seen.item,
            protocol=self._protocol,
            size=seen.size,
            media_item_id=media_item_id,
            media_title=media_title,
        )
        about = (
            Resource("media_item", str(media_item_id))
            if media_item_id
            else Resource("download", str(download_id))
        )
        rows = await self._outbox.perform(
            INSERT,
            download_id,
            seen.title,
            state,
            seen.client,
            seen.item,
            self._protocol,
            seen.category,
            seen.size,
            seen.save_path,
            media_item_id,
            events=[Envelope.of(event, actor=MONITOR, resource=about)],
        )
        return bool(rows)

    async def _state(self, seen: DownloadStatus, shown_at: datetime.datetime) -> DownloadState:
        """Where its life begins for us. What a client had completed before we met it is old news:
        it is told as discovered, and not as completed once more."""
        met_at = await self._pool.fetchval(MET_AT, seen.client)
        first_meeting = datetime.timedelta(seconds=FIRST_MEETING_LASTS)
        is_old = met_at is not None and shown_at - met_at < first_meeting
        return "completed" if is_old and seen.phase is Phase.COMPLETED else "active"
