"""Reading the outbox: what is to be published next, and how far that has come.

Positions are drawn before their transactions commit, so a lower one may appear after a higher one
was read. The cursor therefore stops at a *horizon*: a position of which no running transaction can
still be drawing lower ones. What was published beyond it is remembered by position. Per resource
the order is that of the commits: whoever changes a row holds its lock until the commit, and draws
its position under that lock.
"""

import asyncio
import dataclasses
from collections.abc import AsyncIterator, Sequence
from typing import Final

import asyncpg

from service.outbox.batch import MOST
from service.runtime.database import Pool

MOST_BYTES: Final = 8_000_000
"""Of payloads in one read; the one that goes beyond is its last."""
MOVE_CURSOR_EVERY: Final = 0.5
"""Seconds; sooner where so much has been read beyond it that it would slow down the next read."""

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
LAST_DRAWN: Final = """
SELECT coalesce(pg_sequence_last_value(pg_get_serial_sequence('outbox', 'position')::regclass), 0)
"""
# Not the snapshot's xmax: that is one past the last transaction that has *ended*.
NEXT_XID: Final = "SELECT pg_current_xact_id()::text::bigint"
OLDEST_RUNNING: Final = "SELECT pg_snapshot_xmin(pg_current_snapshot())::text::bigint"


@dataclasses.dataclass(frozen=True)
class Horizon:
    """``position`` had been drawn before transaction ``next_xid`` began."""

    position: int
    next_xid: int


class Reading:
    """How far the outbox has been read and published: everything up to ``cursor``, and the
    positions ``ahead`` of it."""

    def __init__(self, pool: Pool) -> None:
        self.cursor = 0
        self.ahead: set[int] = set()
        self._pool = pool
        self._horizon: Horizon | None = None
        self._cursor_moved_at = 0.0

    async def begin(self) -> None:
        """Goes on where the last relay was."""
        self.cursor = await self._pool.fetchval(READ_CURSOR)

    async def next_rows(self, under_way: Sequence[int] = ()) -> list[asyncpg.Record]:
        """What is to be published next, without the positions ``under_way``: one batch at most."""
        known = [*self.ahead, *under_way]
        return await self._pool.fetch(READ, self.cursor, known, MOST, MOST_BYTES)

    def published(self, positions: Sequence[int]) -> None:
        """NATS has stored them."""
        self.ahead.update(positions)

    def is_published(self, position: int) -> bool:
        """Whether NATS has stored it, once."""
        return position <= self.cursor or position in self.ahead

    async def passed_rows(self) -> AsyncIterator[list[asyncpg.Record]]:
        """What is in the outbox still though the cursor has passed it, a batch at a time."""
        after, last = 0, self.cursor
        while rows := await self._pool.fetch(PASSED, after, last, MOST, MOST_BYTES):
            after = rows[-1]["position"]
            yield rows

    async def move_cursor_when_due(self) -> None:
        """Keeps what is remembered beyond the cursor small, at little cost."""
        now = asyncio.get_running_loop().time()
        if len(self.ahead) >= MOST or now - self._cursor_moved_at > MOVE_CURSOR_EVERY:
            await self.move_cursor()
            self._cursor_moved_at = now

    async def move_cursor(self) -> None:
        """Advances towards the horizon, as far as all is published, once every transaction that
        drew positions below it has ended."""
        if not self.ahead and self._horizon is None:
            return
        if self._horizon is None:
            position = await self._pool.fetchval(LAST_DRAWN)
            # Only now: whoever drew that position had its id by then.
            self._horizon = Horizon(position, await self._pool.fetchval(NEXT_XID))
        if await self._pool.fetchval(OLDEST_RUNNING) < self._horizon.next_xid:
            return
        # Whatever will ever be below the horizon can be read by now.
        first = await self._first_unpublished()
        if first is not None and first <= self._horizon.position:
            self.cursor = max(self.cursor, first - 1)
        else:
            self.cursor = max(self.cursor, self._horizon.position)
            self._horizon = None
        self.ahead = {position for position in self.ahead if position > self.cursor}
        await self._pool.execute(MOVE_CURSOR, self.cursor)

    async def _first_unpublished(self) -> int | None:
        rows = await self._pool.fetch(READ, self.cursor, list(self.ahead), 1, 1)
        return rows[0]["position"] if rows else None


def is_full(rows: Sequence[asyncpg.Record]) -> bool:
    """Whether a read ended at its limit: more may wait."""
    return len(rows) == MOST or sum(len(row["payload"]) for row in rows) >= MOST_BYTES
