"""All SQL of the table ``downloads``: read rows, request changes, and make transitions."""

from collections.abc import Collection, Sequence
from typing import Final
from uuid import UUID

import msgspec

from mediabus.runtime.postgres.database import Connection, Pool
from mediabus.schemas.envelope import Envelope
from mediabus.schemas.fitting import fitted_text
from mediabus.schemas.identity import Actor, proof_of
from mediabus.schemas.operations.requests import ListDownloads
from mediabus.schemas.status import ClientName, DownloadStatus, ItemId, Protocol
from mediabus.service.downloads.row import Ask, DownloadRow, NewDownload, Transition
from mediabus.service.outbox.outbox import Outbox

COLUMNS: Final = """
       d.*, m.title AS media_title,
       extract(epoch FROM now() - d.created_at)::float8 AS age,
       extract(epoch FROM now() - d.updated_at)::float8 AS unchanged_for,
       extract(epoch FROM now() - d.asked_at)::float8 AS asked_for
"""
"""What ``DownloadRow.of`` reads."""

ROWS: Final = f"""
SELECT {COLUMNS}
FROM downloads AS d LEFT JOIN media_items AS m ON m.id = d.media_item_id
"""  # noqa: S608 - a constant of this module
BY_ID: Final = f"{ROWS} WHERE d.id = $1"
LIST: Final = f"""
{ROWS}
WHERE ($1::text[] IS NULL OR d.state = ANY($1)) AND ($2::text IS NULL OR d.client = $2)
  AND ($3::uuid IS NULL OR d.media_item_id = $3) AND ($4::uuid IS NULL OR d.id < $4)
ORDER BY d.id DESC LIMIT $5
"""
LATEST_BY_ITEM: Final = f"""
SELECT DISTINCT ON (d.client, d.client_item) {COLUMNS}
FROM unnest($1::text[], $2::text[]) AS seen (client, item)
JOIN downloads AS d ON d.client = seen.client AND d.client_item = seen.item
LEFT JOIN media_items AS m ON m.id = d.media_item_id
ORDER BY d.client, d.client_item, d.id DESC
"""  # noqa: S608 - a constant of this module
INITIATING: Final = f"""
{ROWS} WHERE d.state = 'initiating' AND d.asked_at < now() - interval '2 minutes'
"""
UNSTABLE: Final = f"""
{ROWS} WHERE d.unstable_since IS NOT NULL AND d.updated_at < now() - make_interval(secs => $1)
"""
EXPECTED: Final = """
SELECT client_item FROM downloads
WHERE client = $1 AND client_item IS NOT NULL
  AND (state IN ('active', 'paused', 'stalled', 'completed')
       OR state = 'initiating' AND asked_at < now() - interval '2 minutes')
"""
# A download of this client whose item id is not known yet. An item that appears may be this one.
IS_ADDING: Final = """
SELECT EXISTS (SELECT FROM downloads WHERE client = $1 AND state = 'initiating'
               AND client_item IS NULL AND asked_at > now() - interval '2 minutes')
"""
RECENT_REMOVALS: Final = """
SELECT count(*) FROM downloads WHERE client = $1 AND client_item = $2 AND state = 'removed'
                                 AND updated_at > now() - interval '1 hour'
"""
INSERT: Final = """
INSERT INTO downloads (id, title, state, client, client_item, protocol, category, indexer,
                       media_item_id, asked, asked_by_type, asked_by_id,
                       asked_correlation_id, asked_at, asked_proven)
VALUES ($1, $2, 'initiating', $3, $4, $5, $6, $7, $8, 'initiate', $9, $10, $11, now(), $12)
"""
INSERT_DISCOVERED: Final = """
WITH op AS (
    INSERT INTO downloads (id, title, state, client, client_item, protocol, category, size,
                           save_path, media_item_id, completed_at, indexer, correlation_id, app,
                           failed_at)
    VALUES ($5, $6, $7, $8, $9, $10, $11, $12, $13, $14,
            CASE WHEN $7 = 'completed' THEN now() END, $15, $16, $17, $18)
    ON CONFLICT DO NOTHING RETURNING id
), known_as AS (
    INSERT INTO download_aliases (alias, client, download_id)
    SELECT alias, $8, op.id FROM op, unnest($19::text[]) AS alias
    ON CONFLICT (alias, client) DO UPDATE SET download_id = excluded.download_id
)
SELECT record_events($1, $2, $3, $4) AS recorded FROM op
"""
ASK: Final = """
UPDATE downloads SET asked = $2, asked_by_type = $3, asked_by_id = $4, asked_correlation_id = $5,
                     asked_proven = $6, asked_at = now(), updated_at = now()
WHERE id = $1 RETURNING asked_at
"""
WITHDRAW: Final = """
UPDATE downloads SET asked = NULL, asked_by_type = NULL, asked_by_id = NULL,
                     asked_correlation_id = NULL, asked_at = NULL, updated_at = now()
WHERE id = $1 AND asked = $2
"""
# The same item in a client that is no longer configured. NZBGet numbers its items from 1, so a
# Usenet download must have the same size too.
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
# The same download in the same client, under a new item id. Applications know it by the old one.
REBIND: Final = """
WITH known AS (
    SELECT id, client_item FROM downloads
    WHERE client = $1 AND client_item = ANY($3) AND state NOT IN ('removed', 'cancelled')
    ORDER BY id DESC LIMIT 1
), moved AS (
    UPDATE downloads AS d SET client_item = $2 FROM known
    WHERE d.id = known.id AND d.client_item = known.client_item
      AND NOT EXISTS (SELECT FROM downloads AS other
                      WHERE other.client = $1 AND other.client_item = $2
                        AND other.state NOT IN ('failed', 'removed', 'cancelled'))
    RETURNING d.id, known.client_item AS old_id
), known_as AS (
    INSERT INTO download_aliases (alias, client, download_id)
    SELECT old_id, $1, id FROM moved
    ON CONFLICT (alias, client) DO UPDATE SET download_id = excluded.download_id
)
SELECT old_id FROM moved
"""
# A request outlives transitions that do not answer it: a cancellation while the download is paused,
# completes or fails, and a pause while the download is initiated or recovers.
STEP: Final = """
WITH op AS (
    UPDATE downloads AS d SET
        state = $7,
        client_item = coalesce($8, d.client_item),
        size = coalesce($9, d.size),
        save_path = coalesce($10, d.save_path),
        reason = $11,
        error_message = $12,
        given_up = $17,
        failed_at = CASE WHEN $7 = 'failed' THEN coalesce(d.failed_at, now())
                         WHEN $7 = 'completed' OR $7 = 'active' AND d.state = 'failed' THEN NULL
                         ELSE d.failed_at END,
        asked = CASE WHEN ask.stays THEN d.asked END,
        asked_by_type = CASE WHEN ask.stays THEN d.asked_by_type END,
        asked_by_id = CASE WHEN ask.stays THEN d.asked_by_id END,
        asked_correlation_id = CASE WHEN ask.stays THEN d.asked_correlation_id END,
        asked_at = CASE WHEN ask.stays THEN d.asked_at END,
        completed_at = CASE WHEN $7 = 'completed' AND d.state <> 'completed' THEN now()
                            ELSE d.completed_at END,
        unstable_since = CASE WHEN $15::boolean IS NULL THEN d.unstable_since
                              WHEN $15 THEN coalesce(d.unstable_since, now()) END,
        updated_at = now()
    FROM (
        SELECT coalesce(
            asked IN ('cancel', 'cancel_with_files') AND $7 NOT IN ('cancelled', 'removed')
            OR asked = 'pause' AND $7 IN ('active', 'stalled'), false) AS stays
        FROM downloads WHERE id = $5
    ) AS ask
    WHERE d.id = $5 AND d.state = $6 AND d.asked_at IS NOT DISTINCT FROM $13
      AND d.client_item IS NOT DISTINCT FROM $14
      AND d.unstable_since IS NOT DISTINCT FROM $16
      AND d.failed_at IS NOT DISTINCT FROM $18
    RETURNING d.id
)
SELECT record_events($1, $2, $3, $4) AS recorded FROM op
"""


async def by_id(connection: Connection | Pool, download_id: UUID) -> DownloadRow | None:
    """Return the row of a download."""
    record = await connection.fetchrow(BY_ID, download_id)
    return DownloadRow.of(record.items()) if record else None


async def matching(pool: Pool, request: ListDownloads, limit: int) -> list[DownloadRow]:
    """Return the rows that match a request, newest first."""
    states = [request.state] if isinstance(request.state, str) else request.state
    wanted = states, request.client, request.media_item_id, request.after
    return [DownloadRow.of(record.items()) for record in await pool.fetch(LIST, *wanted, limit)]


async def latest_by_item(
    pool: Pool, items: Sequence[tuple[ClientName, ItemId]]
) -> dict[tuple[str, str], DownloadRow]:
    """Return the newest row of each item that has one."""
    clients, ids = [client for client, _ in items], [item for _, item in items]
    rows = [
        DownloadRow.of(record.items()) for record in await pool.fetch(LATEST_BY_ITEM, clients, ids)
    ]
    return {(row.client, row.client_item or ""): row for row in rows}


async def initiating(pool: Pool) -> list[DownloadRow]:
    """Return the downloads that are initiating for so long that the operation was interrupted."""
    return [DownloadRow.of(record.items()) for record in await pool.fetch(INITIATING)]


async def unstable(pool: Pool, seconds: float) -> list[DownloadRow]:
    """Return the unstable downloads that have not changed for so many seconds."""
    return [DownloadRow.of(record.items()) for record in await pool.fetch(UNSTABLE, seconds)]


async def expected_items(pool: Pool, client: ClientName) -> set[ItemId]:
    """Return the items that this client should still list."""
    return {ItemId(record["client_item"]) for record in await pool.fetch(EXPECTED, client)}


async def is_adding(pool: Pool, client: str) -> bool:
    """Return whether mediabus is adding a download to this client whose id is not known yet."""
    return bool(await pool.fetchval(IS_ADDING, client))


async def recent_removals(pool: Pool, client: str, item: str) -> int:
    """Return how often an item was removed from its client within the last hour."""
    count: int = await pool.fetchval(RECENT_REMOVALS, client, item)
    return count


async def insert(
    connection: Connection, new: NewDownload, asked_by: Actor, correlation_id: str | None
) -> DownloadRow:
    """Insert a download that is about to be handed to its client.

    Raises:
        asyncpg.UniqueViolationError: the client or the media item has such a download already.
        asyncpg.ForeignKeyViolationError: there is no such media item.
    """
    await connection.execute(
        INSERT,
        new.id,
        new.title,
        new.client,
        new.client_item,
        new.protocol,
        new.category,
        new.indexer,
        new.media_item_id,
        asked_by.type,
        asked_by.id,
        correlation_id,
        proof_of(asked_by),
    )
    row = await by_id(connection, new.id)
    if row is None:  # downloads are never deleted
        raise RuntimeError(f"download {new.id} vanished")
    return row


async def insert_discovered(outbox: Outbox, new: NewDownload, event: Envelope) -> bool:
    """Insert a download that was added in its client, and record the event.

    Returns False, and inserts nothing, if the client or the media item has such a download already.
    """
    return bool(
        await outbox.perform(
            INSERT_DISCOVERED,
            new.id,
            new.title,
            new.state,
            new.client,
            new.client_item,
            new.protocol,
            new.category,
            new.size,
            new.save_path,
            new.media_item_id,
            new.indexer,
            new.correlation_id,
            new.app,
            new.failed_at,
            list(new.aliases),
            events=[event],
        )
    )


async def adopt(
    pool: Pool, status: DownloadStatus, protocol: Protocol, configured: Collection[str]
) -> str | None:
    """Move the rows of an item to the new name of its client.

    ``configured`` are the names of all clients in the settings. Returns the former name, or None if
    no client that is no longer configured had the item.
    """
    rows = await pool.fetch(
        ADOPT, status.client, status.item, list(configured), protocol, status.size
    )
    return rows[0]["old_name"] if rows else None


async def rebind(pool: Pool, status: DownloadStatus) -> str | None:
    """Replace the item id of the download that the client lists under a new id.

    Returns the former id, or None if no download has one of the status's aliases.
    """
    old: str | None = await pool.fetchval(REBIND, status.client, status.item, list(status.aliases))
    return old


async def ask(
    pool: Pool, row: DownloadRow, what: Ask, actor: Actor, correlation_id: str | None
) -> DownloadRow:
    """Store who requests a change, before the client is called. Returns the row as it is then."""
    proof = proof_of(actor)
    asked_at = await pool.fetchval(ASK, row.id, what, actor.type, actor.id, correlation_id, proof)
    return msgspec.structs.replace(
        row,
        asked=what,
        asked_by_type=actor.type,
        asked_by_id=actor.id,
        asked_proven=proof,
        asked_correlation_id=correlation_id,
        asked_at=asked_at,
    )


async def withdraw(pool: Pool, row: DownloadRow, what: Ask) -> None:
    """Delete a request that the client refused."""
    await pool.execute(WITHDRAW, row.id, what)


async def step(outbox: Outbox, row: DownloadRow, transition: Transition) -> bool:
    """Make a transition and record its events in one statement.

    This is a compare-and-set. It returns False and changes nothing if another process has changed
    the row since it was read: its state, its request or its item id. The request is compared
    because the row may have left its state and returned to it in between.
    """
    rows = await outbox.perform(
        STEP,
        row.id,
        row.state,
        transition.state,
        transition.client_item,
        transition.size,
        transition.save_path,
        transition.reason,
        transition.error_message and fitted_text(transition.error_message),
        row.asked_at,
        row.client_item,
        transition.unstable,
        row.unstable_since,
        transition.given_up,
        row.failed_at,
        events=[row.envelope(fact) for fact in transition.events],
    )
    return bool(rows)
