"""Reading what happened: the table ``events``, filtered, a page at a time, newest first."""

import base64
import binascii
import contextlib
import datetime
from collections.abc import AsyncIterator
from typing import Final
from uuid import UUID

import asyncpg
import msgspec

from schemas.commands import CountHistory, Counts, GetById, HistoryEvent, ListHistory, Page
from schemas.identity import Actor
from service.runtime.api import Headers, OperationError, endpoint, problem, serving
from service.runtime.bus import Bus
from service.runtime.database import Pool

MOST_BYTES: Final = 600_000
"""Of data on one page, so that it fits into a NATS message; a page may be short because of it."""

ANSWER_WITHIN: Final = 20.0

SELECT: Final = """
SELECT id, occurred_at, type, category, severity, source, actor_type, actor_id, resource_type,
       resource_id, correlation_id, causation_id, data::text AS data, recorded_at
FROM events
"""
NEWEST_FIRST: Final = " ORDER BY occurred_at DESC, id DESC LIMIT $?"
PAGE: Final = """
SELECT * FROM (
    SELECT chosen.*, row_number() OVER so_far AS nth, count(*) OVER () AS found,
           sum(octet_length(data)) OVER so_far AS bytes
    FROM (<CHOSEN>) AS chosen
    WINDOW so_far AS (ORDER BY occurred_at DESC, id DESC)
) AS page
WHERE nth = 1 OR bytes <= $?
ORDER BY occurred_at DESC, id DESC
"""
COUNT: Final = "SELECT type, count(*) AS count FROM events"
BY_TYPE: Final = " GROUP BY type ORDER BY count(*) DESC, type"
ONE: Final = SELECT + " WHERE id = $1"

CONDITIONS: Final = {
    "category": "category = $?",
    "type": "type = $?",
    "severity": "severity = $?",
    "actor_type": "actor_type = $?",
    "actor_id": "actor_id = $?",
    "resource_type": "resource_type = $?",
    "resource_id": "resource_id = $?",
    "since": "occurred_at >= $?",
    "until": "occurred_at < $?",
}
"""The condition of each filter. Only those that are asked for reach PostgreSQL, so that its plan
for a prepared statement is the one for these filters."""

# The first half is for the choice of partitions, which looks at single columns only.
AFTER: Final = "occurred_at <= $? AND (occurred_at, id) < ($?, $?)"


class _Query:
    """A statement being put together from constants, and its arguments."""

    def __init__(self) -> None:
        self.conditions: list[str] = []
        self.args: list[object] = []

    def add(self, fragment: str, *args: object) -> str:
        """The fragment with its ``$?`` numbered."""
        for arg in args:
            self.args.append(arg)
            fragment = fragment.replace("$?", f"${len(self.args)}", 1)
        return fragment

    def where(self) -> str:
        return " WHERE " + " AND ".join(self.conditions) if self.conditions else ""


def _filtered(request: ListHistory | CountHistory) -> _Query:
    query = _Query()
    for name, condition in CONDITIONS.items():
        value = getattr(request, name)
        if isinstance(value, datetime.datetime):
            value = _in_utc(name, value)
        if value is not None:
            query.conditions.append(query.add(condition, value))
    return query


def _in_utc(field: str, moment: datetime.datetime) -> datetime.datetime:
    try:
        return moment.astimezone(datetime.UTC)
    except OverflowError as error:
        message = f"{field} is not within the years 1 to 9999 in UTC"
        raise OperationError(problem(400, "invalid_request", message, field)) from error


def page_query(request: ListHistory) -> tuple[str, list[object]]:
    """The statement of a page, one event longer than asked for, and its arguments."""
    query = _filtered(request)
    if request.after is not None:
        moment, event_id = _position(request.after)
        query.conditions.append(query.add(AFTER, moment, moment, event_id))
    chosen = SELECT + query.where() + query.add(NEWEST_FIRST, request.limit + 1)
    return query.add(PAGE, MOST_BYTES).replace("<CHOSEN>", chosen), query.args


def count_query(request: CountHistory) -> tuple[str, list[object]]:
    """The statement that counts events by type, and its arguments."""
    query = _filtered(request)
    return COUNT + query.where() + BY_TYPE, query.args


class History:
    """The table ``events``, read from. Each method answers one request."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def list(self, request: ListHistory, _: Actor, __: Headers) -> Page[HistoryEvent]:
        """A page, newest first. Raises OperationError where ``after`` is not a ``next``."""
        statement, args = page_query(request)
        rows = await self._pool.fetch(statement, *args, timeout=ANSWER_WITHIN)
        shown = rows[: request.limit]
        more = bool(rows) and rows[0]["found"] > len(shown)
        return Page(items=[_event(row) for row in shown], next=_cursor(shown[-1]) if more else None)

    async def count(self, request: CountHistory, _: Actor, __: Headers) -> Counts:
        """How many events there are, of each type."""
        statement, args = count_query(request)
        rows = await self._pool.fetch(statement, *args, timeout=ANSWER_WITHIN)
        by_type = {row["type"]: row["count"] for row in rows}
        return Counts(total=sum(by_type.values()), by_type=by_type)

    async def get(self, request: GetById, _: Actor, __: Headers) -> HistoryEvent:
        """One event. Raises OperationError where there is none."""
        row = await self._pool.fetchrow(ONE, request.id, timeout=ANSWER_WITHIN)
        if row is None:
            raise OperationError(problem(404, "not_found", f"no event {request.id}", "id"))
        return _event(row)


def _event(row: asyncpg.Record) -> HistoryEvent:
    return HistoryEvent(
        id=row["id"],
        time=row["occurred_at"],
        type=row["type"],
        category=row["category"],
        severity=row["severity"],
        source=row["source"],
        actor_type=row["actor_type"],
        actor_id=row["actor_id"],
        resource_type=row["resource_type"],
        resource_id=row["resource_id"],
        correlation_id=row["correlation_id"],
        causation_id=row["causation_id"],
        # As PostgreSQL keeps it, without its blanks: Python would round what it cannot hold.
        data=msgspec.Raw(msgspec.json.format(row["data"], indent=-1).encode()),
        recorded_at=row["recorded_at"],
    )


EPOCH: Final = datetime.datetime.fromtimestamp(0, datetime.UTC)
MICROSECOND: Final = datetime.timedelta(microseconds=1)


def _cursor(row: asyncpg.Record) -> str:
    """Where a page ended, to the microsecond."""
    microseconds = (row["occurred_at"] - EPOCH) // MICROSECOND
    plain = microseconds.to_bytes(8, "big", signed=True) + row["id"].bytes
    return base64.urlsafe_b64encode(plain).decode()


def _position(cursor: str) -> tuple[datetime.datetime, UUID]:
    try:
        plain = base64.b64decode(cursor, altchars=b"-_", validate=True)
        microseconds = int.from_bytes(plain[:8], "big", signed=True)
        return EPOCH + microseconds * MICROSECOND, UUID(bytes=plain[8:])
    except (binascii.Error, ValueError, OverflowError) as error:
        message = "after takes the next of the page before"
        raise OperationError(problem(400, "invalid_request", message, "after")) from error


@contextlib.asynccontextmanager
async def serve_history(bus: Bus, pool: Pool) -> AsyncIterator[None]:
    """Answers ``history.list``, ``history.count`` and ``history.get`` while it is open."""
    history = History(pool)
    async with serving(
        bus,
        name="mediabus-history",
        description="What happened: the stored events",
        endpoints=[
            endpoint("history.list", ListHistory, history.list),
            endpoint("history.count", CountHistory, history.count),
            endpoint("history.get", GetById, history.get),
        ],
    ):
        yield
