"""Media items: created, updated, deleted, monitored or not."""

from collections.abc import Iterable
from typing import Any, Final
from uuid import UUID

import asyncpg
import msgspec

from schemas.commands import (
    CreateMedia,
    Deleted,
    DeleteMedia,
    ListMedia,
    MediaItem,
    Page,
    SetMonitored,
    UpdateMedia,
)
from schemas.envelope import Envelope
from schemas.events import (
    Event,
    MediaItemAdded,
    MediaItemMonitoringChanged,
    MediaItemRemoved,
    MediaItemUpdated,
)
from schemas.identity import Actor, Resource, uuid7
from service.outbox.outbox import Outbox
from service.runtime.api import OperationError, problem
from service.runtime.database import Connection, Pool

CREATE: Final = """
WITH op AS (
    INSERT INTO media_items (id, type, title, original_title, year, tmdb_id, imdb_id,
                             metadata, monitored)
    VALUES ($5, $6, $7, $8, $9, $10, $11, $12, $13) RETURNING *
)
SELECT op.*, record_events($1, $2, $3, $4) AS recorded FROM op
"""
LOCK: Final = "SELECT * FROM media_items WHERE id = ANY ($1) ORDER BY id FOR UPDATE"
UPDATE: Final = """
UPDATE media_items SET title = $2, original_title = $3, year = $4, tmdb_id = $5, imdb_id = $6,
                       metadata = $7, updated_at = now()
WHERE id = $1 RETURNING *
"""
DELETE: Final = "DELETE FROM media_items WHERE id = ANY ($1)"
SET_MONITORED: Final = """
UPDATE media_items SET monitored = $2, updated_at = now() WHERE id = ANY ($1) AND monitored <> $2
RETURNING *
"""
GET: Final = "SELECT * FROM media_items WHERE id = $1"
LIST: Final = """
SELECT * FROM media_items
WHERE ($1::text IS NULL OR type = $1) AND ($2::boolean IS NULL OR monitored = $2)
  AND ($3::text IS NULL OR position(lower($3) IN lower(title)) > 0)
  AND ($4::uuid IS NULL OR id > $4)
ORDER BY id LIMIT $5
"""

UPDATABLE: Final = ("title", "original_title", "year", "tmdb_id", "imdb_id", "metadata")


class Media:
    """The operations on media items. Each raises OperationError and then has done nothing."""

    def __init__(self, pool: Pool, outbox: Outbox) -> None:
        self._pool = pool
        self._outbox = outbox

    async def create(
        self, request: CreateMedia, actor: Actor, correlation_id: str | None = None
    ) -> MediaItem:
        """Adds a movie or a TV show; 409 where its id at TMDB is taken."""
        item_id = uuid7()
        event = MediaItemAdded(
            title=request.title,
            media_type=request.type,
            monitored=request.monitored,
            year=request.year,
            tmdb_id=request.tmdb_id,
            imdb_id=request.imdb_id,
        )
        try:
            rows = await self._outbox.perform(
                CREATE,
                item_id,
                request.type,
                request.title,
                request.original_title,
                request.year,
                request.tmdb_id,
                request.imdb_id,
                request.metadata,
                request.monitored,
                events=[_envelope(event, item_id, actor, correlation_id)],
            )
        except asyncpg.UniqueViolationError as error:
            raise _taken(request.tmdb_id) from error
        return _item(rows[0])

    async def update(
        self, request: UpdateMedia, actor: Actor, correlation_id: str | None = None
    ) -> MediaItem:
        """Changes what is given; where nothing differs nothing happens."""
        async with self._outbox.transaction() as work:
            old = _item((await _locked(work.connection, [request.id]))[0])
            changes = _changes(old, request)
            if not changes:
                return old
            wanted = msgspec.structs.replace(
                old, **{name: new for name, (_, new) in changes.items()}
            )
            if wanted.type == "movie" and wanted.year is None:
                raise OperationError(
                    problem(400, "invalid_request", "a movie needs a year", "year")
                )
            values = [getattr(wanted, name) for name in UPDATABLE]
            try:
                new = _item((await work.connection.fetch(UPDATE, old.id, *values))[0])
            except asyncpg.UniqueViolationError as error:
                raise _taken(wanted.tmdb_id) from error
            event = MediaItemUpdated(**_facts(new), changes=changes)
            await work.record(_envelope(event, new.id, actor, correlation_id))
        return new

    async def delete(
        self, request: DeleteMedia, actor: Actor, correlation_id: str | None = None
    ) -> Deleted:
        """Removes the items, all or none."""
        async with self._outbox.transaction() as work:
            items = [_item(row) for row in await _locked(work.connection, request.ids)]
            ids = [item.id for item in items]
            await work.connection.execute(DELETE, ids)
            await work.record(
                *(
                    _envelope(MediaItemRemoved(**_facts(item)), item.id, actor, correlation_id)
                    for item in items
                )
            )
        return Deleted(ids=ids)

    async def set_monitored(
        self, request: SetMonitored, actor: Actor, correlation_id: str | None = None
    ) -> Page[MediaItem]:
        """Monitors the items or no longer does, all or none; answers those that changed."""
        async with self._outbox.transaction() as work:
            await _locked(work.connection, request.ids)
            rows = await work.connection.fetch(SET_MONITORED, request.ids, request.monitored)
            changed = [_item(row) for row in rows]
            await work.record(
                *(
                    _envelope(
                        MediaItemMonitoringChanged(**_facts(item)), item.id, actor, correlation_id
                    )
                    for item in changed
                )
            )
        return Page(items=changed)

    async def get(self, item_id: UUID) -> MediaItem:
        """One item; 404 where there is none."""
        row = await self._pool.fetchrow(GET, item_id)
        if row is None:
            raise _unknown([item_id])
        return _item(row)

    async def list(self, request: ListMedia) -> Page[MediaItem]:
        """A page of items in the order in which they were added."""
        rows = await self._pool.fetch(
            LIST, request.type, request.monitored, request.search, request.after, request.limit + 1
        )
        items = [_item(row) for row in rows[: request.limit]]
        return Page(items=items, next=str(items[-1].id) if len(rows) > request.limit else None)


async def _locked(connection: Connection, ids: Iterable[UUID]) -> list[asyncpg.Record]:
    """The rows of all the ids, locked in one order so that two bulk operations cannot block each
    other for ever."""
    wanted = set(ids)
    rows: list[asyncpg.Record] = await connection.fetch(LOCK, list(wanted))
    missing = wanted - {row["id"] for row in rows}
    if missing:
        raise _unknown(missing)
    return rows


def _item(row: asyncpg.Record) -> MediaItem:
    return MediaItem(**{name: row[name] for name in MediaItem.__struct_fields__})


def _facts(item: MediaItem) -> dict[str, Any]:
    """What every event about a media item says."""
    return {
        "title": item.title,
        "media_type": item.type,
        "monitored": item.monitored,
        "year": item.year,
        "tmdb_id": item.tmdb_id,
        "imdb_id": item.imdb_id,
    }


def _changes(old: MediaItem, request: UpdateMedia) -> dict[str, tuple[Any, Any]]:
    """Old and new value of each field that the request gives and that differs."""
    given = {name: getattr(request, name) for name in UPDATABLE}
    return {
        name: (getattr(old, name), value)
        for name, value in given.items()
        if value is not msgspec.UNSET and value != getattr(old, name)
    }


def _envelope(event: Event, item_id: UUID, actor: Actor, correlation_id: str | None) -> Envelope:
    return Envelope.of(
        event,
        actor=actor,
        resource=Resource("media_item", str(item_id)),
        correlation_id=correlation_id,
    )


def _taken(tmdb_id: int | None) -> OperationError:
    return OperationError(
        problem(
            409,
            "duplicate_media_item",
            f"the library has an item with tmdb_id {tmdb_id} already",
            "tmdb_id",
        )
    )


def _unknown(ids: Iterable[UUID]) -> OperationError:
    named = ", ".join(sorted(map(str, ids)))
    return OperationError(problem(404, "unknown_media_item", f"no media item {named}", "id"))
