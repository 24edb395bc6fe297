"""Search the data of events, which has no index: newest first, for a limited time."""

import datetime
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, NamedTuple
from uuid import UUID

import asyncpg

from mediabus.consumers.history.filters import filtered
from mediabus.schemas.operations.history_cursor import position_of
from mediabus.schemas.operations.requests import ListHistory

Fetch = Callable[[str, Sequence[object]], Awaitable[Sequence[asyncpg.Record]]]
"""Runs a statement with its arguments, and returns its rows."""

SEARCH_WITHIN: Final = 2.0
"""Seconds that a page may search."""

FIRST_WIDTH: Final = datetime.timedelta(days=1)
LONGEST_WIDTH: Final = datetime.timedelta(days=3650)
"""Of a stretch of time."""

WANTED: Final = 0.2
"""Seconds that the search of a stretch should take."""

BOUNDS: Final = "SELECT min(occurred_at) AS oldest, max(occurred_at) AS newest FROM events"
KEYS: Final = "SELECT occurred_at, id FROM events"
NEWEST_FIRST: Final = " ORDER BY occurred_at DESC, id DESC LIMIT $?"
FROM: Final = "occurred_at >= $?"
TO: Final = "occurred_at <= $?"
AFTER_KEY: Final = "(occurred_at, id) < ($?, $?)"

ABOVE_ALL: Final = UUID(int=2**128 - 1)


class Key(NamedTuple):
    """The primary key of an event."""

    time: datetime.datetime
    id: UUID


class Found(NamedTuple):
    """The events that match. If ``searched_to`` is not None, those before it were not searched."""

    keys: list[Key]
    searched_to: datetime.datetime | None


def is_search(request: ListHistory) -> bool:
    """Return whether a request filters by the data of events."""
    return bool(request.title or request.client or request.extensions)


async def search(fetch: Fetch, request: ListHistory, limit: int, *, within: float) -> Found:
    """Return the newest events that match, at most ``limit``.

    After ``within`` seconds, no further stretch of time is searched.

    Raises OperationError if a filter cannot be used, and InvalidCursor.
    """
    deadline = time.monotonic() + within
    (bounds,) = await fetch(BOUNDS, [])
    if bounds["oldest"] is None:
        return Found([], None)
    end, width, keys = _end(request, bounds["newest"]), FIRST_WIDTH, list[Key]()
    oldest = max(bounds["oldest"], request.since or bounds["oldest"])
    while True:
        begin = oldest if end.time - oldest <= width else end.time - width
        started = time.monotonic()
        statement, args = _stretch(request, begin, end, limit - len(keys))
        keys += [Key(*row) for row in await fetch(statement, args)]
        if len(keys) >= limit or begin <= oldest:
            return Found(keys, None)
        now = time.monotonic()
        if now > deadline:
            return Found(keys, begin)
        end, width = Key(begin, UUID(int=0)), _next_width(width, now - started)


def _end(request: ListHistory, newest: datetime.datetime) -> Key:
    """Return the key before which the search begins."""
    if request.after is None:
        return Key(newest, ABOVE_ALL)
    moment, event_id = position_of(request.after)
    return Key(moment, event_id) if moment <= newest else Key(newest, ABOVE_ALL)


def _stretch(
    request: ListHistory, begin: datetime.datetime, end: Key, limit: int
) -> tuple[str, list[object]]:
    query = filtered(request)
    query.conditions.append(query.add(FROM, begin))
    # This condition is for partition pruning, which uses single columns only.
    query.conditions.append(query.add(TO, end.time))
    query.conditions.append(query.add(AFTER_KEY, end.time, end.id))
    statement = KEYS + query.where() + query.add(NEWEST_FIRST, limit)
    return statement, query.args


def _next_width(width: datetime.timedelta, took: float) -> datetime.timedelta:
    """Return the width of the next stretch, from the seconds that this one took."""
    factor = min(8.0, max(0.25, WANTED / max(took, 0.001)))
    return min(LONGEST_WIDTH, width * factor)
