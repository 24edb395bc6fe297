"""Read old events from the table ``events``, oldest first, as they were published."""

import dataclasses
import datetime
from collections.abc import AsyncIterator
from typing import Final
from uuid import UUID

from mediabus.consumers.event_row import NAMES, SELECTED, EventRow
from mediabus.runtime.postgres.database import Pool

PAGE_SIZE: Final = 100
MAX_PAGE_BYTES: Final = 8_000_000
"""Bytes of events on a page. A page has at least one event."""

CHOSEN: Final = """
FROM events
WHERE occurred_at >= $1 AND occurred_at < $2 AND type = coalesce($3, type)
"""
COUNT: Final = "SELECT count(*)" + CHOSEN
PAGE: Final = f"""
SELECT {NAMES} FROM (
    SELECT *, row_number() OVER so_far AS nth,
           sum(coalesce(octet_length(message), octet_length(data))) OVER so_far AS bytes
    FROM (
        SELECT {SELECTED}
        {CHOSEN} AND (occurred_at, id) > ($1, $4) ORDER BY occurred_at, id LIMIT {PAGE_SIZE}
    ) AS chosen
    WINDOW so_far AS (ORDER BY occurred_at, id)
) AS page
WHERE nth = 1 OR bytes <= {MAX_PAGE_BYTES} ORDER BY occurred_at, id
"""  # noqa: S608 - constants
FEW: Final = 10
"""Rows fetched at once if their size is not limited."""

PUBLISHED_AFTER: Final = f"""
SELECT {SELECTED} FROM events WHERE recorded_at >= $1 AND stream_seq > $2 ORDER BY stream_seq
"""  # noqa: S608 - constants
BEFORE_ALL: Final = UUID(int=0)


@dataclasses.dataclass(frozen=True)
class Span:
    """A filter: events from ``since`` (inclusive) to ``until`` (exclusive), of one or all types."""

    since: datetime.datetime
    until: datetime.datetime
    type: str | None = None

    def takes(self, row: EventRow) -> bool:
        """Return whether an event is in the span."""
        return self.since <= row.occurred_at < self.until and self.type in {None, row.type}


async def count(pool: Pool, span: Span) -> int:
    """Count the stored events in a span."""
    found: int = await pool.fetchval(COUNT, span.since, span.until, span.type)
    return found


async def pages(pool: Pool, span: Span) -> AsyncIterator[list[EventRow]]:
    """Yield the stored events in a span, oldest first."""
    since, after = span.since, BEFORE_ALL
    while records := await pool.fetch(PAGE, since, span.until, span.type, after):
        yield [EventRow.read(record) for record in records]
        since, after = records[-1]["occurred_at"], records[-1]["id"]


async def published_after(
    pool: Pool, sequence: int, stored_since: datetime.datetime
) -> AsyncIterator[list[EventRow]]:
    """Yield the events behind a stream sequence number that were stored since a time.

    The order is that of the stream.
    """
    async with pool.acquire() as connection, connection.transaction(readonly=True):
        cursor = await connection.cursor(PUBLISHED_AFTER, stored_since, sequence)
        while records := await cursor.fetch(FEW):
            yield [EventRow.read(record) for record in records]
