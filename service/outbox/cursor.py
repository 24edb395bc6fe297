"""Read the outbox in order, and keep the cursor: the position up to which all is published.

A transaction draws its positions before it commits, so a lower position may appear after a higher
one was read. The cursor therefore stops at a *horizon*: a position below which no running
transaction can still commit a row. Positions published beyond the cursor are kept in memory.

Events of one resource are in commit order: a transaction locks the row of the resource before it
draws the position, and holds the lock until it commits.
"""

import asyncio
import dataclasses
from collections.abc import AsyncIterator, Sequence
from typing import Final

import asyncpg

from mediabus.runtime.postgres.database import Pool
from mediabus.service.outbox.publish import MAX_BATCH_MESSAGES

MAX_READ_BYTES: Final = 8_000_000
"""Bytes of payloads in one read. The row that exceeds the limit is the last of the read, so that
one large event cannot block the relay."""
MOVE_CURSOR_EVERY: Final = 0.5
"""Seconds; sooner if so many positions are kept in memory that they would slow down reads."""

READ_CURSOR: Final = "SELECT position FROM outbox_cursor"
MOVE_CURSOR: Final = "UPDATE outbox_cursor SET position = $1 WHERE position < $1"
READ: Final = """
SELECT position, id, subject, payload FROM (
    SELECT *, sum(octet_length(payload)) OVER (ORDER BY position) AS bytes FROM outbox
    WHERE position > $1 AND position <> ALL ($2::bigint[]) ORDER BY position LIMIT $3
) AS next WHERE bytes - octet_length(payload) < $4 ORDER BY position
"""
PASSED: Final = """
SELECT position, id, subject, payload FROM (
    SELECT *, sum(octet_length(payload)) OVER (ORDER BY position) AS bytes FROM outbox
    WHERE position > $1 AND position <= $2 ORDER BY position LIMIT $3
) AS next WHERE bytes - octet_length(payload) < $4 ORDER BY position
"""
OLDEST_AGE: Final = """
SELECT extract(epoch FROM clock_timestamp() - recorded_at)::float8 FROM outbox
WHERE position > $1 AND position <> ALL ($2::bigint[]) ORDER BY position LIMIT 1
"""
LAST_DRAWN: Final = """
SELECT coalesce(pg_sequence_last_value(pg_get_serial_sequence('outbox', 'position')::regclass), 0)
"""
# Not the xmax of the snapshot, which is one past the last transaction that has *ended*.
NEXT_XID: Final = "SELECT pg_current_xact_id()::text::bigint"
OLDEST_RUNNING: Final = "SELECT pg_snapshot_xmin(pg_current_snapshot())::text::bigint"


@dataclasses.dataclass(frozen=True)
class Horizon:
    """Every position up to ``position`` was drawn before transaction ``next_xid`` began."""

    position: int
    next_xid: int


class Cursor:
    """The progress of the relay: all rows up to ``position`` are published, and those ``ahead``."""

    def __init__(self, pool: Pool) -> None:
        self.position = 0
        self.ahead: set[int] = set()
        self._pool = pool
        self._horizon: Horizon | None = None
        self._moved_at = 0.0

    async def load(self) -> None:
        """Load the position that the previous relay stored."""
        self.position = await self._pool.fetchval(READ_CURSOR)

    async def next_rows(self, in_flight: Sequence[int] = ()) -> list[asyncpg.Record]:
        """Return the next rows to publish, at most one batch, except those ``in_flight``."""
        known = [*self.ahead, *in_flight]
        return await self._pool.fetch(
            READ, self.position, known, MAX_BATCH_MESSAGES, MAX_READ_BYTES
        )

    async def oldest_age(self) -> float:
        """Return the age of the oldest row that NATS has not stored, in seconds; 0 without one."""
        age = await self._pool.fetchval(OLDEST_AGE, self.position, list(self.ahead))
        return max(age or 0.0, 0.0)

    def mark_published(self, positions: Sequence[int]) -> None:
        """Note that NATS has stored the rows at these positions."""
        self.ahead.update(positions)

    def is_published(self, position: int) -> bool:
        """Return whether NATS has acknowledged the row at this position."""
        return position <= self.position or position in self.ahead

    async def passed_rows(self) -> AsyncIterator[list[asyncpg.Record]]:
        """Yield the rows still in the outbox that the cursor has passed, in batches."""
        after, last = 0, self.position
        while rows := await self._pool.fetch(
            PASSED, after, last, MAX_BATCH_MESSAGES, MAX_READ_BYTES
        ):
            after = rows[-1]["position"]
            yield rows

    async def move_when_due(self) -> None:
        """Move the cursor when due, so that few positions are kept in memory."""
        now = asyncio.get_running_loop().time()
        if len(self.ahead) >= MAX_BATCH_MESSAGES or now - self._moved_at > MOVE_CURSOR_EVERY:
            await self.move()
            self._moved_at = now

    async def move(self) -> None:
        """Move the cursor towards the horizon, up to the first row that is not published.

        Waits for the next call while a transaction that may have drawn a lower position runs.
        """
        if not self.ahead and self._horizon is None:
            return
        if self._horizon is None:
            position = await self._pool.fetchval(LAST_DRAWN)
            # Read after the position: the transaction that drew it has its id by now.
            self._horizon = Horizon(position, await self._pool.fetchval(NEXT_XID))
        if await self._pool.fetchval(OLDEST_RUNNING) < self._horizon.next_xid:
            return
        # Every row that can exist below the horizon is visible now.
        first = await self._first_unpublished()
        if first is not None and first <= self._horizon.position:
            self.position = max(self.position, first - 1)
        else:
            self.position = max(self.position, self._horizon.position)
            self._horizon = None
        self.ahead = {position for position in self.ahead if position > self.position}
        await self._pool.execute(MOVE_CURSOR, self.position)

    async def _first_unpublished(self) -> int | None:
        rows = await self._pool.fetch(READ, self.position, list(self.ahead), 1, 1)
        return rows[0]["position"] if rows else None


def is_full(rows: Sequence[asyncpg.Record]) -> bool:
    """Return whether a read ended at a limit, so that more rows may wait."""
    return (
        len(rows) == MAX_BATCH_MESSAGES
        or sum(len(row["payload"]) for row in rows) >= MAX_READ_BYTES
    )
