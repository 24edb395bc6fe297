"""Create, update, delete, monitor, get and list media items."""

from collections.abc import Iterable
from typing import Any, Final, Self
from uuid import UUID

import asyncpg
import msgspec

from mediabus.runtime.api.pages import OMITTED, paged
from mediabus.runtime.api.serve import OperationError, problem
from mediabus.runtime.api.turns import LISTS_AT_A_TIME, Turns
from mediabus.runtime.postgres.database import Connection, Pool
from mediabus.schemas.envelope import Envelope
from mediabus.schemas.events import (
    Event,
    MediaItemAdded,
    MediaItemMonitoringChanged,
    MediaItemRemoved,
    MediaItemUpdated,
)
from mediabus.schemas.identity import Actor, Resource, uuid7
from mediabus.schemas.operations.requests import (
    CreateMedia,
    Deleted,
    DeleteMedia,
    ListMedia,
    MediaItem,
    Page,
    SetMonitored,
    UpdateMedia,
)
from mediabus.service.operations.metadata import MAX_METADATA_BYTES, shown_in_event, written_size
from mediabus.service.outbox.outbox import Outbox

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
SELECT * FROM (
    SELECT *, row_number() OVER so_far AS nth, count(*) OVER () AS found,
           sum(octet_length(metadata::text)) OVER so_far AS bytes
    FROM (
        SELECT * FROM media_items
        WHERE ($1::text IS NULL OR type = $1) AND ($2::boolean IS NULL OR monitored = $2)
          AND ($3::text IS NULL OR position(lower($3) IN lower(title)) > 0)
          AND ($4::uuid IS NULL OR id > $4)
        ORDER BY id LIMIT $5
    ) AS chosen
    WINDOW so_far AS (ORDER BY id)
) AS page
WHERE nth = 1 OR bytes <= 4000000 ORDER BY id
"""

MAX_REPLY_BYTES: Final = 1_000_000
"""Bytes of a reply that NATS takes with its headers: its limit is 1 MiB (``max_payload``)."""

UPDATABLE: Final = ("title", "original_title", "year", "tmdb_id", "imdb_id", "metadata")


class Media:
    """Operations on media items. Each raises OperationError and has then changed nothing."""

    def __init__(self, pool: Pool, outbox: Outbox) -> None:
        self._pool = pool
        self._outbox = outbox
        self._lists = Turns(LISTS_AT_A_TIME)

    def using(self, outbox: Outbox) -> Self:
        """Return the same operations with another outbox."""
        return type(self)(self._pool, outbox)

    async def create(
        self, request: CreateMedia, actor: Actor, correlation_id: str | None = None
    ) -> MediaItem:
        """Add a movie or a TV show.

        Raises:
            OperationError: 409 ``duplicate_media_item`` if its TMDB id is taken.
        """
        _check_size(request.metadata)
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
        """Change the given fields. If none differs, nothing changes and no event is recorded."""
        if request.metadata is not msgspec.UNSET:
            _check_size(request.metadata)
        async with self._outbox.transaction() as work:
            old = _item((await _lock(work.connection, [request.id]))[0])
            changes = _changes(old, request)
            if not changes:
                return old
            updated = msgspec.structs.replace(
                old, **{name: new for name, (_, new) in changes.items()}
            )
            if updated.type == "movie" and updated.year is None:
                raise OperationError(
                    problem(400, "invalid_request", "a movie needs a year", "year")
                )
            values = [getattr(updated, name) for name in UPDATABLE]
            try:
                new = _item((await work.connection.fetch(UPDATE, old.id, *values))[0])
            except asyncpg.UniqueViolationError as error:
                raise _taken(updated.tmdb_id) from error
            event = MediaItemUpdated(**_facts(new), changes=_event_changes(changes))
            await work.record(_envelope(event, new.id, actor, correlation_id))
            _check_reply(new)
        return new

    async def delete(
        self, request: DeleteMedia, actor: Actor, correlation_id: str | None = None
    ) -> Deleted:
        """Delete all the items or none."""
        async with self._outbox.transaction() as work:
            items = [_item(row) for row in await _lock(work.connection, request.ids)]
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
        """Set whether the items are monitored, all or none, and return those that changed."""
        async with self._outbox.transaction() as work:
            await _lock(work.connection, request.ids)
            rows = await work.connection.fetch(SET_MONITORED, request.ids, request.monitored)
            changed = [_item(row) for row in rows]
            reply = Page(items=changed)
            _check_reply(reply)
            await work.record(
                *(
                    _envelope(
                        MediaItemMonitoringChanged(**_facts(item)), item.id, actor, correlation_id
                    )
                    for item in changed
                )
            )
        return reply

    async def get(self, item_id: UUID) -> MediaItem:
        """Return an item.

        Raises:
            OperationError: 404 ``unknown_media_item``.
        """
        row = await self._pool.fetchrow(GET, item_id)
        if row is None:
            raise _unknown([item_id])
        return _item(row)

    async def list(self, request: ListMedia) -> Page[MediaItem]:
        """Return a page of items in the order in which they were added."""
        filters = request.type, request.monitored, request.search, request.after
        async with self._lists.turn():
            rows = await self._pool.fetch(LIST, *filters, request.limit + 1)
        return paged(
            [_item(row) for row in rows[: request.limit]],
            found=rows[0]["found"] if rows else 0,
            cursor=lambda item: str(item.id),
            stub=lambda item, size: msgspec.structs.replace(item, metadata={OMITTED: size}),
        )


async def _lock(connection: Connection, ids: Iterable[UUID]) -> list[asyncpg.Record]:
    """Lock and return the rows of all the ids, in the order of their ids to prevent deadlocks.

    Raises:
        OperationError: 404 ``unknown_media_item``.
    """
    requested = set(ids)
    rows: list[asyncpg.Record] = await connection.fetch(LOCK, list(requested))
    missing = requested - {row["id"] for row in rows}
    if missing:
        raise _unknown(missing)
    return rows


def _item(row: asyncpg.Record) -> MediaItem:
    return MediaItem(**{name: row[name] for name in MediaItem.__struct_fields__})


def _facts(item: MediaItem) -> dict[str, Any]:
    """Return the fields that every event of a media item has."""
    return {
        "title": item.title,
        "media_type": item.type,
        "monitored": item.monitored,
        "year": item.year,
        "tmdb_id": item.tmdb_id,
        "imdb_id": item.imdb_id,
    }


def _changes(old: MediaItem, request: UpdateMedia) -> dict[str, tuple[Any, Any]]:
    """Return the old and the new value of each field that the request changes."""
    given = {name: getattr(request, name) for name in UPDATABLE}
    return {
        name: (getattr(old, name), value)
        for name, value in given.items()
        if value is not msgspec.UNSET and value != getattr(old, name)
    }


def _event_changes(changes: dict[str, tuple[Any, Any]]) -> dict[str, tuple[Any, Any]]:
    """Return the changes as their event has them."""
    if "metadata" not in changes:
        return changes
    old, new = changes["metadata"]
    return {**changes, "metadata": (shown_in_event(old), new)}


def _check_size(metadata: dict[str, Any]) -> None:
    size = written_size(metadata)
    if size > MAX_METADATA_BYTES:
        message = (
            f"metadata takes {size} bytes with its numbers written out; the limit is "
            f"{MAX_METADATA_BYTES}: remove fields from it"
        )
        raise OperationError(problem(400, "too_large", message, "metadata"))


def _check_reply(reply: msgspec.Struct) -> None:
    """Reject, before the commit, a change whose reply is too large for NATS."""
    size = len(msgspec.json.encode(reply))
    if size > MAX_REPLY_BYTES:
        message = (
            f"nothing was changed: the reply would have {size} bytes; the limit is "
            f"{MAX_REPLY_BYTES}: change fewer items at a time, or reduce their metadata first"
        )
        raise OperationError(problem(400, "reply_too_large", message))


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
            f"the library already has an item with tmdb_id {tmdb_id}",
            "tmdb_id",
        )
    )


def _unknown(ids: Iterable[UUID]) -> OperationError:
    names = ", ".join(sorted(map(str, ids)))
    return OperationError(problem(404, "unknown_media_item", f"no media item {names}", "id"))
