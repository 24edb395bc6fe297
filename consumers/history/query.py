"""Query the stored events: filtered, newest first, one page at a time."""

import base64
import contextlib
import datetime
from collections.abc import AsyncIterator, Sequence
from typing import Final
from uuid import UUID

import asyncpg
import msgspec

from mediabus.consumers.event_row import COLUMNS, SELECTED, EventRow
from mediabus.consumers.history.filters import filtered
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
from mediabus.schemas.operations.history_cursor import cursor_of, position_of
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

# The first condition is for partition pruning, which uses single columns only.
AFTER: Final = "occurred_at <= $? AND (occurred_at, id) < ($?, $?)"


def page_query(request: ListHistory) -> tuple[str, list[object]]:
    """Return the statement and arguments of a page, which has one event more than requested."""
    query = filtered(request)
    if request.after is not None:
        moment, event_id = _position(request.after)
        query.conditions.append(query.add(AFTER, moment, moment, event_id))
    chosen = SELECT + query.where() + query.add(NEWEST_FIRST, request.limit + 1)
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

        Raises OperationError if ``after`` is not the ``next`` of a page.
        """
        statement, args = page_query(request)
        async with self._turns.turn():
            rows = await self._fetch(statement, args)
        return paged(
            [_event(row) for row in rows[: request.limit]],
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
    try:
        return position_of(cursor)
    except ValueError as error:
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
