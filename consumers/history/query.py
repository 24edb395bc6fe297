"""Query the stored events: filtered, newest first, one page at a time."""

import base64
import contextlib
import datetime
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Final
from uuid import UUID

import asyncpg
import msgspec

from mediabus.consumers.event_row import COLUMNS, SELECTED, EventRow
from mediabus.consumers.history.filters import Query, filtered
from mediabus.consumers.history.search import SEARCH_WITHIN, Found, is_search, search
from mediabus.consumers.history.timeline import Span, timeline_query
from mediabus.runtime import tracing
from mediabus.runtime.api.pages import MOST_REPLY_BYTES, OMITTED, paged
from mediabus.runtime.api.serve import Headers, OperationError, endpoint, problem, serving
from mediabus.runtime.api.turns import Turns
from mediabus.runtime.nats.bus import Bus
from mediabus.runtime.nats.streams import ROOM_FOR_HEADERS
from mediabus.runtime.postgres.database import Pool
from mediabus.schemas.envelope import Envelope
from mediabus.schemas.identity import Actor
from mediabus.schemas.operations.history_cursor import InvalidCursor, cursor_of, position_of
from mediabus.schemas.operations.requests import (
    CountHistory,
    Counts,
    GetById,
    HistoryEvent,
    HistoryTimeline,
    ListHistory,
    Page,
    Timeline,
)

MAX_PAGE_BYTES: Final = 600_000
"""Bytes of data on one page, so that it fits into a NATS message. A page may be shorter than its
limit because of this."""

MAX_DATA_BYTES: Final = 2_000_000
"""Bytes of an event's data, in PostgreSQL's spelling, above which a page omits the data."""

CONNECTIONS: Final = 3
"""Size of the pool for queries, and the number of queries answered at once. Storing events uses a
pool of its own, so queries cannot delay it."""

SELECT: Final = f"SELECT {SELECTED}, recorded_at FROM events"  # noqa: S608 - constants
NEWEST_FIRST: Final = " ORDER BY occurred_at DESC, id DESC LIMIT $?"
SHOWN: Final = ", ".join(
    f"CASE WHEN octet_length(data) <= {MAX_DATA_BYTES} THEN data "
    f"ELSE format('{{\"{OMITTED}\": %s}}', octet_length(data)) END AS data"
    if name == "data"
    else name
    for name in (*COLUMNS, "recorded_at")
)
PAGE: Final = f"""
SELECT {SHOWN}, found FROM (
    SELECT chosen.*, row_number() OVER so_far AS nth, count(*) OVER () AS found,
           sum(coalesce(octet_length(message), octet_length(data))) OVER so_far AS bytes
    FROM (<CHOSEN>) AS chosen
    WINDOW so_far AS (ORDER BY occurred_at DESC, id DESC)
) AS page
WHERE nth = 1 OR bytes <= $?
ORDER BY occurred_at DESC, id DESC
"""  # noqa: S608 - constants
COUNT: Final = "SELECT type, count(*) AS count FROM events"
BY_TYPE: Final = " GROUP BY type ORDER BY count(*) DESC, type"
ONE: Final = SELECT + " WHERE id = $1"

KEYED: Final = (
    "occurred_at BETWEEN $? AND $? AND (occurred_at, id) IN "
    "(SELECT * FROM unnest($?::timestamptz[], $?::uuid[]))"
)

# The first condition is for partition pruning, which uses single columns only.
AFTER: Final = "occurred_at <= $? AND (occurred_at, id) < ($?, $?)"


def page_query(request: ListHistory) -> tuple[str, list[object]]:
    """Return the statement and arguments of a page, which has one event more than requested."""
    query = filtered(request)
    if request.after is not None:
        moment, event_id = _position(request.after)
        query.conditions.append(query.add(AFTER, moment, moment, event_id))
    return _page_of(query, request.limit + 1)


def found_query(found: Found) -> tuple[str, list[object]]:
    """Return the statement that reads the events that a search found, and its arguments."""
    query = Query()
    times, ids = [key.time for key in found.keys], [key.id for key in found.keys]
    query.conditions.append(query.add(KEYED, min(times), max(times), times, ids))
    return _page_of(query, len(ids))


def _page_of(query: Query, most: int) -> tuple[str, list[object]]:
    chosen = SELECT + query.where() + query.add(NEWEST_FIRST, most)
    return query.add(PAGE, MAX_PAGE_BYTES).replace("<CHOSEN>", chosen), query.args


def count_query(request: CountHistory) -> tuple[str, list[object]]:
    """Return the statement that counts events by type, and its arguments."""
    query = filtered(request)
    return COUNT + query.where() + BY_TYPE, query.args


class History:
    """Reads the table ``events``. Each method handles one kind of request."""

    def __init__(self, pool: Pool, *, most_bytes: int = MOST_REPLY_BYTES) -> None:
        self._pool = pool
        self._most_bytes = most_bytes
        self._turns = Turns(CONNECTIONS)

    async def list(self, request: ListHistory, _: Actor, __: Headers) -> Page[HistoryEvent]:
        """Return a page of events, newest first.

        A search in the data ends after a while: the page is short then, and its ``next`` continues.
        Raises OperationError if ``after`` is not the ``next`` of a page.
        """
        if is_search(request):
            return await self._searched(request)
        statement, args = page_query(request)
        async with self._turns.turn():
            rows = await self._fetch(statement, args)
        return self._page(rows, request.limit)

    async def _searched(self, request: ListHistory) -> Page[HistoryEvent]:
        with _valid_cursor():
            async with self._turns.turn():
                found = await search(self._fetch, request, request.limit + 1, within=SEARCH_WITHIN)
                rows = await self._fetch(*found_query(found)) if found.keys else []
        page = self._page(rows, request.limit)
        if page.next is not None or found.searched_to is None:
            return page
        return msgspec.structs.replace(page, next=cursor_of(found.searched_to, UUID(int=0)))

    def _page(self, rows: Sequence[asyncpg.Record], limit: int) -> Page[HistoryEvent]:
        return paged(
            [_event(row) for row in rows[:limit]],
            found=rows[0]["found"] if rows else 0,
            cursor=_cursor,
            stub=_stub,
            most_bytes=self._most_bytes,
        )

    async def count(self, request: CountHistory, _: Actor, __: Headers) -> Counts:
        """Count the events of each type."""
        statement, args = count_query(request)
        async with self._turns.turn():
            rows = await self._fetch(statement, args)
        by_type = {row["type"]: row["count"] for row in rows}
        return Counts(total=sum(by_type.values()), by_type=by_type)

    async def timeline(self, request: HistoryTimeline, _: Actor, __: Headers) -> Timeline:
        """Count events in steps. Raises OperationError if there are too many steps."""
        span = Span.of(request)
        statement, args = timeline_query(request, span)
        async with self._turns.turn():
            rows = await self._fetch(statement, args)
        return span.filled(rows)

    async def get(self, request: GetById, _: Actor, __: Headers) -> HistoryEvent:
        """Return one event. Raises OperationError if it does not exist or is too large."""
        async with self._turns.turn():
            rows = await self._fetch(ONE, [request.id])
        if not rows:
            message = f"event {request.id} does not exist"
            raise OperationError(problem(404, "not_found", message, "id"))
        event = _event(rows[0])
        size = len(msgspec.json.encode(event))
        if size > self._most_bytes:
            message = (
                f"event {request.id} has {size} bytes, more than the {self._most_bytes} bytes of "
                "a NATS message. Read it from the table events in PostgreSQL"
            )
            raise OperationError(problem(400, "too_large", message, "id"))
        return event

    async def _fetch(self, statement: str, args: Sequence[object]) -> Sequence[asyncpg.Record]:
        with tracing.query() as span:
            rows: Sequence[asyncpg.Record] = await self._pool.fetch(statement, *args)
            span.note("db.response.returned_rows", len(rows))
            return rows


def _stub(event: HistoryEvent, size: int) -> HistoryEvent:
    """Return an event without its data and extensions, because it is too large."""
    data = msgspec.Raw(msgspec.json.encode({OMITTED: size}))
    return msgspec.structs.replace(event, data=data, data_base64=None, extensions={})


SAME: Final = tuple(
    name
    for name in HistoryEvent.__struct_fields__
    if name in EventRow.__struct_fields__ and name not in {"extensions", "has_time"}
)
"""The fields that a row and an event of the history share."""


def _event(record: asyncpg.Record) -> HistoryEvent:
    row = EventRow.read(record)
    event = HistoryEvent(
        **{name: getattr(row, name) for name in SAME},
        time=row.occurred_at,
        extensions=row.extensions or {},
        recorded_at=record["recorded_at"],
    )
    return event if row.message is None else _as_published(event, row.envelope())


def _as_published(event: HistoryEvent, envelope: Envelope) -> HistoryEvent:
    """Add the attributes that only the stored message has."""
    binary = envelope.data_bytes
    return msgspec.structs.replace(
        event,
        data=envelope.data or NULL,
        has_data=bool(envelope.data) or binary is not None,
        data_base64=None if binary is None else base64.b64encode(binary).decode(),
        content_type=envelope.content_type,
        data_schema=envelope.data_schema,
        extensions=envelope.extensions,
        published_time=envelope.published_time,
        subject=envelope.subject,
        has_time=envelope.has_time,
    )


NULL: Final = msgspec.Raw(b"null")


def _cursor(event: HistoryEvent) -> str:
    return cursor_of(event.time, event.id)


def _position(cursor: str) -> tuple[datetime.datetime, UUID]:
    with _valid_cursor():
        return position_of(cursor)


@contextlib.contextmanager
def _valid_cursor() -> Iterator[None]:
    try:
        yield
    except InvalidCursor as error:
        message = "after must be the `next` of the previous page"
        raise OperationError(problem(400, "invalid_request", message, "after")) from error


@contextlib.asynccontextmanager
async def serve_history(bus: Bus, pool: Pool) -> AsyncIterator[None]:
    """Serve the operations of ``history`` while open."""
    history = History(pool, most_bytes=bus.nc.max_payload - ROOM_FOR_HEADERS)
    async with serving(
        bus,
        name="mediabus-history",
        description="What happened: the stored events",
        endpoints=[
            endpoint("history.list", ListHistory, history.list),
            endpoint("history.count", CountHistory, history.count),
            endpoint("history.get", GetById, history.get),
            endpoint("history.timeline", HistoryTimeline, history.timeline),
        ],
    ):
        yield
