"""Which application grabbed a download, by its id in the client."""

import datetime
from collections.abc import Sequence
from typing import Final
from uuid import UUID

import msgspec

from mediabus.runtime.postgres.database import Pool

# A failure that was reported long ago belongs to an earlier attempt.
GRAB: Final = """
SELECT r.app, r.correlation_id, r.indexer, m.id AS media_item_id, m.title AS media_title,
       CASE WHEN r.failed_at > now() - interval '1 hour' THEN r.failed_at END AS failed_at
FROM releases AS r LEFT JOIN media_items AS m ON m.id = r.media_item_id
WHERE r.client_item = ANY ($1) ORDER BY r.grabbed_at DESC NULLS LAST, r.app LIMIT 1
"""


class Grab(msgspec.Struct, frozen=True, kw_only=True):
    """What an application has grabbed. ``failed_at`` is when it reported a failure."""

    app: str
    correlation_id: str
    indexer: str | None
    media_item_id: UUID | None
    media_title: str | None
    failed_at: datetime.datetime | None

    @property
    def media_item(self) -> tuple[UUID, str] | None:
        if self.media_item_id is None or self.media_title is None:
            return None
        return self.media_item_id, self.media_title


async def grab_of(pool: Pool, items: Sequence[str]) -> Grab | None:
    """Return the newest grab of a download, which may have several ids in its client."""
    row = await pool.fetchrow(GRAB, list(items))
    return msgspec.convert(dict(row), Grab) if row else None
