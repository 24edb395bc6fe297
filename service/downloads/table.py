"""The table ``downloads``: reading rows, asking for a change, and taking a step, once."""

from collections.abc import Sequence
from typing import Final
from uuid import UUID

import msgspec

from schemas.identity import Actor
from schemas.status import ClientName, ItemId
from service.downloads.row import Ask, DownloadRow, Transition
from service.outbox.outbox import Outbox
from service.runtime.database import Pool

BY_ID: Final = """
SELECT d.*, m.title AS media_title,
       extract(epoch FROM now() - d.created_at)::float8 AS age,
       extract(epoch FROM now() - d.updated_at)::float8 AS unchanged_for,
       extract(epoch FROM now() - d.asked_at)::float8 AS asked_for
FROM downloads AS d LEFT JOIN media_items AS m ON m.id = d.media_item_id
WHERE d.id = $1
"""
LATEST_BY_ITEM: Final = """
SELECT DISTINCT ON (d.client, d.client_item) d.*, m.title AS media_title,
       extract(epoch FROM now() - d.created_at)::float8 AS age,
       extract(epoch FROM now() - d.updated_at)::float8 AS unchanged_for,
       extract(epoch FROM now() - d.asked_at)::float8 AS asked_for
FROM unnest($1::text[], $2::text[]) AS seen (client, item)
JOIN downloads AS d ON d.client = seen.client AND d.client_item = seen.item
LEFT JOIN media_items AS m ON m.id = d.media_item_id
ORDER BY d.client, d.client_item, d.id DESC
"""
WITHOUT_ITEM: Final = """
SELECT d.*, m.title AS media_title,
       extract(epoch FROM now() - d.created_at)::float8 AS age,
       extract(epoch FROM now() - d.updated_at)::float8 AS unchanged_for,
       extract(epoch FROM now() - d.asked_at)::float8 AS asked_for
FROM downloads AS d LEFT JOIN media_items AS m ON m.id = d.media_item_id
WHERE d.client = $1 AND d.state = 'initiating' AND d.client_item IS NULL
"""
EXPECTED: Final = """
SELECT client_item FROM downloads
WHERE client = $1 AND client_item IS NOT NULL
  AND (state IN ('active', 'paused', 'stalled', 'completed')
       OR state = 'initiating' AND asked_at < now() - interval '2 minutes')
"""
ASK: Final = """
UPDATE downloads SET asked = $2, asked_by_type = $3, asked_by_id = $4, asked_correlation_id = $5,
                     asked_at = now(), updated_at = now()
WHERE id = $1 RETURNING asked_at
"""
FORGET: Final = """
UPDATE downloads SET asked = NULL, asked_by_type = NULL, asked_by_id = NULL,
                     asked_correlation_id = NULL, asked_at = NULL, updated_at = now()
WHERE id = $1 AND asked = $2
"""
# An ask outlives the steps that do not answer it: a cancel that is under way while the download is
# paused, completes or fails, and a pause while it is initiated or recovers.
STEP: Final = """
WITH op AS (
    UPDATE downloads AS d SET
        state = $7,
        client_item = coalesce($8, d.client_item),
        size = coalesce($9, d.size),
        save_path = coalesce($10, d.save_path),
        reason = $11,
        error_message = $12,
        asked = CASE WHEN ask.stays THEN d.asked END,
        asked_by_type = CASE WHEN ask.stays THEN d.asked_by_type END,
        asked_by_id = CASE WHEN ask.stays THEN d.asked_by_id END,
        asked_correlation_id = CASE WHEN ask.stays THEN d.asked_correlation_id END,
        asked_at = CASE WHEN ask.stays THEN d.asked_at END,
        completed_at = CASE WHEN $7 = 'completed' AND d.state <> 'completed' THEN now()
                            ELSE d.completed_at END,
        updated_at = now()
    FROM (
        SELECT coalesce(
            asked IN ('cancel', 'cancel_with_files') AND $7 NOT IN ('cancelled', 'removed')
            OR asked = 'pause' AND $7 IN ('active', 'stalled'), false) AS stays
        FROM downloads WHERE id = $5
    ) AS ask
    WHERE d.id = $5 AND d.state = $6 AND d.asked_at IS NOT DISTINCT FROM $13
    RETURNING d.id
)
SELECT record_events($1, $2, $3, $4) AS recorded FROM op
"""


async def by_id(pool: Pool, download_id: UUID) -> DownloadRow | None:
    """The row of a download."""
    record = await pool.fetchrow(BY_ID, download_id)
    return DownloadRow.of(record.items()) if record else None


async def latest_by_item(
    pool: Pool, items: Sequence[tuple[ClientName, ItemId]]
) -> dict[tuple[str, str], DownloadRow]:
    """The newest row of each item that mediabus knows."""
    clients, ids = [client for client, _ in items], [item for _, item in items]
    rows = [
        DownloadRow.of(record.items()) for record in await pool.fetch(LATEST_BY_ITEM, clients, ids)
    ]
    return {(row.client, row.client_item or ""): row for row in rows}


async def without_item(pool: Pool, client: ClientName) -> list[DownloadRow]:
    """The downloads that a client is being given and has not named yet."""
    return [DownloadRow.of(record.items()) for record in await pool.fetch(WITHOUT_ITEM, client)]


async def expected_items(pool: Pool, client: ClientName) -> set[ItemId]:
    """The items that this client should still have."""
    return {ItemId(record["client_item"]) for record in await pool.fetch(EXPECTED, client)}


async def ask(
    pool: Pool, row: DownloadRow, what: Ask, actor: Actor, correlation_id: str | None
) -> DownloadRow:
    """Writes down who wants what, before the client is asked for it. The row as it is then."""
    asked_at = await pool.fetchval(ASK, row.id, what, actor.type, actor.id, correlation_id)
    return msgspec.structs.replace(
        row,
        asked=what,
        asked_by_type=actor.type,
        asked_by_id=actor.id,
        asked_correlation_id=correlation_id,
        asked_at=asked_at,
    )


async def forget(pool: Pool, row: DownloadRow, what: Ask) -> None:
    """Takes an ask back that the client refused."""
    await pool.execute(FORGET, row.id, what)


async def step(outbox: Outbox, row: DownloadRow, transition: Transition) -> bool:
    """Takes the step and records its events in one statement, unless the row has left the state
    in which it was read, or what was asked of it has changed: it may have come back to that state
    in between. Then this step did not happen."""
    done = await outbox.perform(
        STEP,
        row.id,
        row.state,
        transition.state,
        transition.client_item,
        transition.size,
        transition.save_path,
        transition.reason,
        transition.error_message,
        row.asked_at,
        events=transition.events,
    )
    return bool(done)
