"""All SQL of a history: claim its rows, read and write what is known, and move the cursor."""

import dataclasses
import datetime
from collections.abc import Sequence
from typing import Any, Final

import msgspec

from mediabus.runtime.postgres.database import Connection
from mediabus.service.apps.history.rows import Meaning, Row
from mediabus.service.apps.history.state import COLUMNS, Item, Known, Release, Replaced

# One process at a time stores a page of an application. The lock makes their order definite.
LOCK: Final = "SELECT * FROM apps WHERE name = $1 FOR UPDATE"
CLAIM: Final = """
INSERT INTO app_rows (app, event_id, date)
SELECT $1, event_id, date FROM unnest($2::uuid[], $3::timestamptz[]) AS row (event_id, date)
ON CONFLICT DO NOTHING RETURNING event_id
"""
PRUNE: Final = """
DELETE FROM app_rows USING apps AS a
WHERE app_rows.app = $1 AND a.name = $1
  AND app_rows.date < a.newest_at - interval '1 hour'
  AND (a.backfill_at IS NULL OR app_rows.date < a.backfill_at - interval '1 hour'
       OR app_rows.date > a.backfill_at + interval '1 hour')
"""
RELEASES: Final = "SELECT * FROM releases WHERE app = $1 AND client_item = ANY ($2)"
QUIET: Final = """
SELECT * FROM releases
WHERE app = $1 AND imported_rows > 0 AND imported_at IS NULL
  AND (import_seen_at < now() - make_interval(secs => $2)
       OR last_import_at < $3::timestamptz - make_interval(secs => $2))
ORDER BY last_import_at LIMIT 500
"""
STORIES: Final = "SELECT part, correlation_id FROM app_stories WHERE app = $1 AND part = ANY ($2)"
ITEMS: Final = """
SELECT s.app_item, m.id, m.title FROM media_sources AS s JOIN media_items AS m
    ON m.id = s.media_item_id
WHERE s.app = $1 AND s.app_item = ANY ($2)
"""
KNOWN_ITEMS: Final = """
SELECT DISTINCT app_item FROM media_sources WHERE app = $1 AND app_item = ANY ($2)
"""
TITLES: Final = "SELECT id, title FROM media_items WHERE id = ANY ($1)"
# The newest download of each item. Only a failure needs the lock: the monitor may report it too.
DOWNLOADS: Final = """
SELECT DISTINCT ON (found.item) found.item, d.id, d.client, d.state, d.failed_at
FROM (SELECT client_item AS item, id FROM downloads WHERE client_item = ANY ($1)
      UNION ALL
      SELECT alias, download_id FROM download_aliases WHERE alias = ANY ($1)) AS found
JOIN downloads AS d ON d.id = found.id
ORDER BY found.item, d.id DESC
"""
LOCK_DOWNLOADS: Final = """
SELECT id, client, state, failed_at FROM downloads WHERE id = ANY ($1) ORDER BY id FOR UPDATE
"""
TAKE_REPLACED: Final = """
DELETE FROM app_replaced WHERE app = $1 AND part = ANY ($2) RETURNING part, path, deleted_at
"""
KEEP_REPLACED: Final = """
INSERT INTO app_replaced (app, part, path, deleted_at)
SELECT $1, * FROM unnest($2::bigint[], $3::text[], $4::timestamptz[])
"""
SAVE_STORIES: Final = """
INSERT INTO app_stories (app, part, correlation_id)
SELECT $1, part, story FROM unnest($2::bigint[], $3::text[]) AS new (part, story)
ON CONFLICT (app, part) DO UPDATE SET correlation_id = excluded.correlation_id
"""
SAVE_RELEASES: Final = """
INSERT INTO releases (
    app, client_item, correlation_id, title, indexer, client, quality, media_item_id,
    grabbed_at, grabbed_rows, failed_at, imported_rows, imported_files, imported_size,
    first_import_at, last_import_at, destination, last_file, upgrade, imported_at, import_seen_at)
SELECT
    r.app, r.client_item, r.correlation_id, r.title, r.indexer, r.client, r.quality,
    r.media_item_id, r.grabbed_at, r.grabbed_rows, r.failed_at, r.imported_rows,
    r.imported_files, r.imported_size, r.first_import_at, r.last_import_at, r.destination,
    r.last_file, r.upgrade, r.imported_at,
    CASE WHEN r.imported_rows > 0 THEN now() END
FROM jsonb_populate_recordset(NULL::releases, $1) AS r
ON CONFLICT (app, client_item) DO UPDATE SET
    correlation_id = excluded.correlation_id,
    title = excluded.title,
    indexer = excluded.indexer,
    client = excluded.client,
    quality = excluded.quality,
    media_item_id = excluded.media_item_id,
    grabbed_at = excluded.grabbed_at,
    grabbed_rows = excluded.grabbed_rows,
    failed_at = excluded.failed_at,
    imported_rows = excluded.imported_rows,
    imported_files = excluded.imported_files,
    imported_size = excluded.imported_size,
    first_import_at = excluded.first_import_at,
    last_import_at = excluded.last_import_at,
    destination = excluded.destination,
    last_file = excluded.last_file,
    upgrade = excluded.upgrade,
    imported_at = excluded.imported_at,
    import_seen_at = CASE WHEN releases.imported_rows = excluded.imported_rows
                          THEN releases.import_seen_at ELSE excluded.import_seen_at END
"""
FAILED: Final = "UPDATE downloads SET failed_at = now() WHERE id = ANY ($1)"
# A media item has one active download at a time, so a second one is joined by its story alone.
JOIN: Final = """
UPDATE downloads AS d SET correlation_id = r.correlation_id, app = r.app,
    media_item_id = CASE
        WHEN d.media_item_id IS NOT NULL OR EXISTS (
            SELECT FROM downloads AS other
            WHERE other.media_item_id = r.media_item_id
              AND other.state IN ('initiating', 'active', 'paused', 'stalled'))
        THEN d.media_item_id ELSE r.media_item_id END
FROM releases AS r
WHERE r.app = $1 AND r.grabbed_at > now() - interval '1 day'
  AND (d.client_item = r.client_item
       OR d.id IN (SELECT download_id FROM download_aliases WHERE alias = r.client_item))
  AND d.correlation_id IS NULL AND d.state NOT IN ('removed', 'cancelled')
  AND d.created_at > r.grabbed_at - interval '1 hour'
"""
MOVE: Final = """
UPDATE apps SET newest_at = greatest(newest_at, least($2, now())),
                grabbed_at = greatest(grabbed_at, least($3, now()))
WHERE name = $1
"""
MOVE_BACKFILL: Final = """
UPDATE apps SET backfill_at = greatest(backfill_at, $2), backfill_rows = backfill_rows + $3
WHERE name = $1 AND backfill_since IS NOT NULL
"""


async def claim(connection: Connection, app: str, rows: Sequence[Row]) -> list[Row]:
    """Return the rows that were not read before, in the order of their dates, and note them."""
    by_id = {row.event_id(app): row for row in rows}
    dates = [row.at for row in by_id.values()]
    claimed = await connection.fetch(CLAIM, app, list(by_id), dates)
    fresh = [by_id[record["event_id"]] for record in claimed]
    return sorted(fresh, key=lambda row: (row.at, row.id))


async def known_about(connection: Connection, app: str, rows: Sequence[Row]) -> Known:
    """Read what is known about the releases, items and stories of rows."""
    items = [row.client_item for row in rows if row.client_item]
    parts = [row.part for row in rows if row.part]
    owners = {row.owner for row in rows if row.owner}
    known = Known()
    for record in await connection.fetch(RELEASES, app, items):
        known.releases[record["client_item"]] = release_of(record)
    for record in await connection.fetch(STORIES, app, parts):
        known.stories[record["part"]] = record["correlation_id"]
    for record in await connection.fetch(ITEMS, app, list(owners)):
        known.items[record["app_item"]] = Item(record["id"], record["title"])
    await _read_replaced(connection, app, known, rows)
    await _read_downloads(connection, known, rows)
    return known


async def _read_replaced(
    connection: Connection, app: str, known: Known, rows: Sequence[Row]
) -> None:
    """Take the files whose better ones these rows may import. ``save`` writes the rest again."""
    pieces = {row.piece for row in rows if row.meaning is Meaning.IMPORTED_FILE}
    for record in await connection.fetch(TAKE_REPLACED, app, list(pieces)) if pieces else ():
        files = known.replaced.setdefault(record["part"], [])
        files.append(Replaced(record["path"], record["deleted_at"]))


async def _read_downloads(connection: Connection, known: Known, rows: Sequence[Row]) -> None:
    items = {row.client_item for row in rows if row.client_item}
    for record in await connection.fetch(DOWNLOADS, list(items)):
        known.downloads[record["item"]] = record
    failing = {row.client_item for row in rows if row.meaning is Meaning.FAILED}
    ids = {known.downloads[item]["id"]: item for item in failing if item in known.downloads}
    for record in await connection.fetch(LOCK_DOWNLOADS, list(ids)) if ids else ():
        known.downloads[ids[record["id"]]] = record


async def save(connection: Connection, app: str, known: Known, *, is_live: bool) -> None:
    """Write what rows changed. ``is_live`` marks the downloads of clients that have failed."""
    await connection.execute(
        SAVE_STORIES, app, list(known.new_stories), list(known.new_stories.values())
    )
    await _save_replaced(connection, app, known)
    changed = [dataclasses.asdict(known.releases[item]) for item in known.changed]
    if not changed:
        return
    await connection.execute(SAVE_RELEASES, msgspec.to_builtins(changed))
    if is_live:
        await connection.execute(FAILED, list(known.failed))


async def _save_replaced(connection: Connection, app: str, known: Known) -> None:
    left = [(piece, file) for piece, files in known.replaced.items() for file in files]
    if left:
        pieces = [piece for piece, _ in left]
        paths = [file.path for _, file in left]
        dates = [file.deleted_at for _, file in left]
        await connection.execute(KEEP_REPLACED, app, pieces, paths, dates)


async def quiet(
    connection: Connection, app: str, seconds: float, now: datetime.datetime | None
) -> Known:
    """Return the releases of which no file was imported for so long, and their media items.

    ``now`` is the date that the history has reached, if it is being imported.
    """
    known = Known()
    for record in await connection.fetch(QUIET, app, seconds, now):
        known.releases[record["client_item"]] = release_of(record)
    ids = {release.media_item_id for release in known.releases.values()} - {None}
    for number, record in enumerate(await connection.fetch(TITLES, list(ids))):
        known.items[-1 - number] = Item(record["id"], record["title"])
    for record in await connection.fetch(DOWNLOADS, list(known.releases)):
        known.downloads[record["item"]] = record
    return known


def release_of(record: Any) -> Release:  # noqa: ANN401 - a record of releases
    """Return the release of a row."""
    return Release(**{column: record[column] for column in COLUMNS})
