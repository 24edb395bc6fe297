"""Delete rows from the outbox once their events have arrived.

An event has arrived when it is in the table ``events``, or in the dead letters if the persister
cannot store it. NATS can lose an event that it acknowledged (``sync_interval`` in the operations
guide says when). Such an event is published again once the persister has nothing left to read.
"""

import asyncio
import dataclasses
import logging
from collections.abc import Mapping, Sequence
from typing import Final

import asyncpg
from nats.errors import Error as NatsError
from nats.js.errors import APIError, BadRequestError, NotFoundError

from mediabus.runtime import metrics
from mediabus.runtime.error_text import error_text
from mediabus.runtime.nats.bus import Bus, PublishFailed
from mediabus.runtime.nats.once import new_id
from mediabus.runtime.nats.stream_scan import headers_in
from mediabus.runtime.postgres.database import Pool
from mediabus.schemas.dead_letter_headers import BODY, IN_STREAM, STREAM_SEQ, message_id_of
from mediabus.schemas.subjects import (
    DEAD_LETTERS_STREAM,
    EVENTS_STREAM,
    PERSISTER,
    dead_letter_subject,
)
from mediabus.service.outbox.cursor import LAST_DRAWN, Cursor
from mediabus.service.outbox.publish import Outgoing, outgoing, publish_all
from mediabus.service.outbox.relay_state import RELAY

log: Final = logging.getLogger("mediabus.relay")

CONFIRM_EVERY: Final = 0.5
"""Seconds between two passes while rows are deleted; doubled after each pass without any."""
CONFIRM_AT_LEAST_EVERY: Final = 4.0
"""Seconds between two passes at most."""
MAX_CONFIRMED_ROWS: Final = 5000
"""Rows deleted by one statement, so that none holds its locks for long."""
LOST_AFTER: Final = 15.0
"""Seconds that an event may take from NATS to ``events`` while the persister is idle. Doubled after
each attempt to publish it again."""

CONFIRM: Final = """
DELETE FROM outbox AS o USING events AS e
WHERE o.position IN (SELECT position FROM outbox WHERE position > $1 ORDER BY position LIMIT $2)
  AND e.id = o.id AND e.occurred_at = o.occurred_at
RETURNING o.position
"""
CONFIRM_BY_ACK: Final = """
DELETE FROM outbox WHERE position <= $1 OR position = ANY ($2::bigint[])
"""
OLDEST: Final = "SELECT min(position) FROM outbox WHERE position > $1"
DELETE: Final = "DELETE FROM outbox WHERE position = ANY ($1::bigint[])"


@dataclasses.dataclass
class Overdue:
    """The oldest row of the outbox, whose event may be lost. Times are in seconds of the loop."""

    position: int
    since: float
    stream_end: int | None = None
    """Last sequence of the stream, read after the row was published: its event comes before it."""
    patience: float = dataclasses.field(default_factory=lambda: LOST_AFTER)

    def has_waited(self, now: float) -> bool:
        """Return whether the row has been the oldest for longer than its patience."""
        return now - self.since > self.patience

    def wait_again(self, now: float) -> None:
        """Wait twice as long for the event, which was just published again."""
        self.patience *= 2
        self.since = now


class Confirmation:
    """Deletes published rows whose events have arrived.

    ``confirm_in_events`` is False if ``events`` is in another database. A row is then deleted when
    NATS has acknowledged its event.
    """

    def __init__(self, pool: Pool, bus: Bus, cursor: Cursor, *, confirm_in_events: bool) -> None:
        self._pool = pool
        self._bus = bus
        self._cursor = cursor
        self._confirm_in_events = confirm_in_events
        self._oldest: int | None = None

    async def run(self) -> None:
        """Confirm rows until cancelled, and publish lost events again."""
        now = asyncio.get_running_loop().time
        pause = CONFIRM_EVERY
        overdue: Overdue | None = None
        while True:
            await asyncio.sleep(pause)
            deleted = await self.confirm()
            pause = CONFIRM_EVERY if deleted else min(2 * pause, CONFIRM_AT_LEAST_EVERY)
            if self._oldest is None:
                overdue = None
            elif overdue is None or overdue.position != self._oldest:
                overdue = Overdue(self._oldest, since=now())
            else:
                await self._check_overdue(overdue)

    async def _check_overdue(self, overdue: Overdue) -> None:
        """Publish again what is overdue, once the persister has read past the oldest row."""
        now = asyncio.get_running_loop().time
        if overdue.stream_end is None:
            if self._cursor.is_published(overdue.position):
                overdue.stream_end = await self._stream_end()
        elif overdue.has_waited(now()) and await self._has_read(overdue.stream_end):
            await self.republish_overdue()
            overdue.wait_again(now())

    async def confirm(self) -> int:
        """Delete the rows whose events have arrived, and return how many they were."""
        cursor = self._cursor
        low = min(cursor.position, (self._oldest or 1) - 1)
        deleted = 0
        if not self._confirm_in_events:
            ahead = list(cursor.ahead)
            deleted = _count(await self._pool.execute(CONFIRM_BY_ACK, cursor.position, ahead))
            cursor.ahead.difference_update(ahead)
        while self._confirm_in_events:
            confirmed = await self._pool.fetch(CONFIRM, low, MAX_CONFIRMED_ROWS)
            cursor.ahead.difference_update(row["position"] for row in confirmed)
            deleted += len(confirmed)
            if len(confirmed) < MAX_CONFIRMED_ROWS:
                break
        self._oldest = await self._pool.fetchval(OLDEST, low)
        drawn = await self._pool.fetchval(LAST_DRAWN)
        RELAY.waiting = drawn - self._oldest + 1 if self._oldest else 0
        metrics.OUTBOX_WAITING.set(RELAY.waiting)
        metrics.OUTBOX_OLDEST.set(await cursor.oldest_age())
        return deleted

    async def _stream_end(self) -> int | None:
        """Return the last sequence of the stream; None if NATS does not answer."""
        try:
            return (await self._bus.js.stream_info(EVENTS_STREAM)).state.last_seq
        except (NatsError, APIError, TimeoutError):
            return None

    async def _has_read(self, sequence: int) -> bool:
        """Return whether the persister has acknowledged everything up to ``sequence``.

        A persister with nothing left to read counts too: a stream that lost events may end before
        ``sequence``.
        """
        try:
            info = await self._bus.js.consumer_info(EVENTS_STREAM, PERSISTER)
        except (NatsError, APIError, TimeoutError):
            return False
        is_idle = not info.num_pending and not info.num_ack_pending
        return is_idle or (info.ack_floor is not None and info.ack_floor.stream_seq >= sequence)

    async def republish_overdue(self) -> None:
        """Delete the rows that the persister dead-lettered, and publish the others again.

        An event that the stream still has is published under a new message id. The persister has
        read past it, yet ``events`` lacks it, as after PostgreSQL was restored from a backup.
        """
        try:
            dead_letters = await self._dead_letters()
            async for rows in self._cursor.passed_rows():
                dead = [row for row in rows if await self._is_dead_letter(row, dead_letters)]
                await self._delete(dead)
                others = [row for row in rows if row not in dead]
                for event in await publish_again(self._bus, others):
                    await self._bus.store(event.subject, event.payload, new_id(f"{event.id}"))
        except (PublishFailed, NatsError, APIError, TimeoutError) as error:
            log.warning(
                "overdue events not published, will retry", extra={"error": error_text(error)}
            )

    async def _dead_letters(self) -> dict[str, list[int]]:
        """Return the sequences of the persister's dead letters by original message id."""
        subjects = dead_letter_subject(PERSISTER, ">")
        found: dict[str, list[int]] = {}
        async for message in headers_in(self._bus, DEAD_LETTERS_STREAM, subjects=subjects):
            message_id = message_id_of(message.headers)
            if message_id:
                found.setdefault(message_id, []).append(message.sequence)
        return found

    async def _is_dead_letter(
        self, row: asyncpg.Record, dead_letters: Mapping[str, list[int]]
    ) -> bool:
        """Return whether a dead letter holds the event of the row.

        The id alone proves nothing: any client may publish another message under it.
        """
        for sequence in dead_letters.get(str(row["id"]), ()):
            if await self._body_of(sequence) == row["payload"]:
                return True
        return False

    async def _body_of(self, sequence: int) -> bytes | None:
        """Return the body of a dead-lettered message; None if it is no longer stored."""
        try:
            message = await self._bus.js.get_msg(DEAD_LETTERS_STREAM, sequence)
            headers = message.headers or {}
            if headers.get(BODY) == IN_STREAM:
                message = await self._bus.js.get_msg(EVENTS_STREAM, int(headers[STREAM_SEQ]))
        except (NotFoundError, BadRequestError, KeyError, ValueError):
            return None
        return message.data

    async def _delete(self, rows: Sequence[asyncpg.Record]) -> None:
        if rows:
            log.error("events dead-lettered by the persister", extra={"count": len(rows)})
            await self._pool.execute(DELETE, [row["position"] for row in rows])


async def publish_again(bus: Bus, rows: Sequence[asyncpg.Record]) -> list[Outgoing]:
    """Publish events again that NATS acknowledged, and return those that its stream still has."""
    if not rows:
        return []
    log.error("events lost, publishing again", extra={"count": len(rows)})
    metrics.RELAYED_AGAIN.inc(len(rows))
    return await publish_all(bus, outgoing(rows))


def _count(status: str) -> int:
    """Return the number of rows in a command tag such as ``DELETE 12``."""
    return int(status.rpartition(" ")[2])
