"""Leaving the outbox: a row goes when its event has arrived.

That is when it is seen in ``events``, or in the dead letters where the persister cannot store it.
What NATS acknowledged but lost (it may: see the operations guide on ``sync_interval``) is published
again when the persister has nothing left to read.
"""

import asyncio
import logging
from collections.abc import Sequence
from typing import Final

import asyncpg
from nats.errors import Error as NatsError
from nats.js.errors import APIError

from schemas.letter import message_id_of
from schemas.subjects import DEAD_LETTERS_STREAM, EVENTS_STREAM
from service.outbox.batch import outgoing, publish_all
from service.outbox.reading import LAST_DRAWN, Reading
from service.runtime import metrics
from service.runtime.bus import Bus, PublishFailed
from service.runtime.database import Pool
from service.runtime.headers import headers_in

log: Final = logging.getLogger("mediabus.relay")

CONFIRM_EVERY: Final = 0.5
CONFIRM_AT_LEAST_EVERY: Final = 4.0
CONFIRM_AT_ONCE: Final = 5000
LOST_AFTER: Final = 15.0
"""Seconds that an event may take from NATS to ``events`` with an idle persister; twice as long
after each time that publishing it again did not help."""

PERSISTER: Final = "persister"
"""The durable consumer that writes ``events``."""

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
LET_GO: Final = "DELETE FROM outbox WHERE position = ANY ($1::bigint[])"


class Leaving:
    """Sees to it that what was read leaves. ``confirm_in_events`` is False where ``events`` is in
    another database: then a row leaves when NATS has acknowledged its event."""

    def __init__(self, pool: Pool, bus: Bus, reading: Reading, *, confirm_in_events: bool) -> None:
        self._pool = pool
        self._bus = bus
        self._reading = reading
        self._confirm_in_events = confirm_in_events
        self._oldest: int | None = None

    async def run(self) -> None:
        """Confirms for ever; publishes again what stays behind although it has been published."""
        now = asyncio.get_running_loop().time
        pause, patience = CONFIRM_EVERY, LOST_AFTER
        overdue, since = self._oldest, now()
        stored: int | None = None  # the stream's end when it was noticed that nothing moves
        while True:
            await asyncio.sleep(pause)
            gone = await self.confirm()
            pause = CONFIRM_EVERY if gone else min(2 * pause, CONFIRM_AT_LEAST_EVERY)
            if self._oldest is None or self._oldest != overdue:
                overdue, since, stored, patience = self._oldest, now(), None, LOST_AFTER
            elif stored is None:
                is_published = self._reading.is_published(self._oldest)
                stored = await self._stored() if is_published else None
            elif now() - since > patience and await self._has_read(stored):
                await self.see_to_overdue()
                patience, since = 2 * patience, now()

    async def confirm(self) -> int:
        """Lets rows go whose events have arrived, and says how many these were."""
        reading = self._reading
        low = min(reading.cursor, (self._oldest or 1) - 1)
        gone = 0
        if not self._confirm_in_events:
            ahead = list(reading.ahead)
            gone = _count(await self._pool.execute(CONFIRM_BY_ACK, reading.cursor, ahead))
            reading.ahead.difference_update(ahead)
        while self._confirm_in_events:
            confirmed = await self._pool.fetch(CONFIRM, low, CONFIRM_AT_ONCE)
            reading.ahead.difference_update(row["position"] for row in confirmed)
            gone += len(confirmed)
            if len(confirmed) < CONFIRM_AT_ONCE:
                break
        self._oldest = await self._pool.fetchval(OLDEST, low)
        drawn = await self._pool.fetchval(LAST_DRAWN)
        metrics.OUTBOX_WAITING.set(drawn - self._oldest + 1 if self._oldest else 0)
        return gone

    async def _stored(self) -> int | None:
        """The newest sequence of the stream; None where that cannot be asked."""
        try:
            return (await self._bus.js.stream_info(EVENTS_STREAM)).state.last_seq
        except (NatsError, APIError, TimeoutError):
            return None

    async def _has_read(self, sequence: int) -> bool:
        """Whether the persister is done with everything up to a sequence, or up to the stream's
        end: a stream that lost events may end before it."""
        try:
            info = await self._bus.js.consumer_info(EVENTS_STREAM, PERSISTER)
        except (NatsError, APIError, TimeoutError):
            return False
        is_idle = not info.num_pending and not info.num_ack_pending
        return is_idle or (info.ack_floor is not None and info.ack_floor.stream_seq >= sequence)

    async def see_to_overdue(self) -> None:
        """Lets go of what the persister buried, and publishes the others again."""
        try:
            buried = await self._buried()
            async for rows in self._reading.passed_rows():
                await self._let_go([row for row in rows if str(row["id"]) in buried])
                others = [row for row in rows if str(row["id"]) not in buried]
                await publish_again(self._bus, others)
        except (PublishFailed, NatsError, APIError, TimeoutError) as error:
            log.warning("overdue events wait for NATS: %s", str(error) or type(error).__name__)

    async def _buried(self) -> set[str]:
        """The ids of the messages that the persister could not store."""
        subjects = f"dead_letters.{PERSISTER}.>"
        letters = headers_in(self._bus, DEAD_LETTERS_STREAM, subjects=subjects)
        return {found async for one in letters if (found := message_id_of(one.headers))}

    async def _let_go(self, rows: Sequence[asyncpg.Record]) -> None:
        if rows:
            log.error("events that cannot be stored are dead letters", extra={"count": len(rows)})
            await self._pool.execute(LET_GO, [row["position"] for row in rows])


async def publish_again(bus: Bus, rows: Sequence[asyncpg.Record]) -> None:
    """Tells NATS once more what it had stored."""
    if rows:
        log.error(
            "NATS lost events that it had stored: publishing again", extra={"count": len(rows)}
        )
        metrics.RELAYED_AGAIN.inc(len(rows))
        await publish_all(bus, outgoing(rows))


def _count(status: str) -> int:
    """The rows of a command's status, such as ``DELETE 12``."""
    return int(status.rpartition(" ")[2])
