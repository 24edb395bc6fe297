"""The relay: takes events from the outbox to NATS, in order, and sees them arrive.

Reading. Positions are drawn before their transactions commit, so a lower one may appear after a
higher one was read. The cursor therefore stops at a *horizon*: a position of which no running
transaction can still be drawing lower ones. What was published beyond it is remembered by position.
Per resource the order is that of the commits: whoever changes a row holds its lock until the
commit, and draws its position under that lock.

Leaving. A row leaves the outbox when its event is seen in ``events``, or in the dead letters where
the persister cannot store it. What NATS acknowledged but lost (it may: see the operations guide on
``sync_interval``) is published again: after a reconnect, before anything newer, where the last of
it is missing; else when the persister has nothing left to read.
"""

import asyncio
import contextlib
import dataclasses
import logging
from collections.abc import Sequence
from typing import Final

import asyncpg
from nats.errors import Error as NatsError
from nats.js.errors import APIError

from schemas.letter import message_id_of
from schemas.subjects import DEAD_LETTERS_STREAM, EVENTS_STREAM
from service.outbox.batch import MOST, Outgoing, publish_all
from service.outbox.forgetting import has_forgotten
from service.outbox.outbox import RECORDED_SUBJECT
from service.runtime import metrics
from service.runtime.bus import Bus, PublishFailed
from service.runtime.database import AWAY, Pool
from service.runtime.headers import headers_in
from service.runtime.lease import while_leading
from service.runtime.streams import keep_streams

log: Final = logging.getLogger("mediabus.relay")

LEASE: Final = "relay"
MOST_BYTES: Final = 8_000_000
"""Of payloads in one read; the one that goes beyond is its last."""
AT_MOST_EVERY: Final = 0.005
"""Seconds from one look to the next: under load a few operations then share one batch."""
POLL_EVERY: Final = 1.0
"""Seconds after which the relay looks although nothing woke it."""
RETRY_AFTER: Final = 0.5
MOVE_CURSOR_EVERY: Final = 0.5
CONFIRM_EVERY: Final = 0.5
CONFIRM_AT_LEAST_EVERY: Final = 4.0
CONFIRM_AT_ONCE: Final = 5000
LOST_AFTER: Final = 15.0
"""Seconds that an event may take from NATS to ``events`` with an idle persister; twice as long
after each time that publishing it again did not help."""

PERSISTER: Final = "persister"
"""The durable consumer that writes ``events``."""

READ_CURSOR: Final = "SELECT position FROM outbox_cursor"
MOVE_CURSOR: Final = "UPDATE outbox_cursor SET position = $1 WHERE position < $1"
READ: Final = """
SELECT position, id, subject, payload FROM (
    SELECT *, sum(octet_length(payload)) OVER (ORDER BY position) AS bytes FROM outbox
    WHERE position > $1 AND position <> ALL ($2::bigint[]) ORDER BY position LIMIT $3
) AS next WHERE bytes - octet_length(payload) < $4 ORDER BY position
"""
LAST_DRAWN: Final = """
SELECT coalesce(pg_sequence_last_value(pg_get_serial_sequence('outbox', 'position')::regclass), 0)
"""
# Not the snapshot's xmax: that is one past the last transaction that has *ended*.
NEXT_XID: Final = "SELECT pg_current_xact_id()::text::bigint"
OLDEST_RUNNING: Final = "SELECT pg_snapshot_xmin(pg_current_snapshot())::text::bigint"
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
OVERDUE: Final = """
SELECT position, id, subject, payload FROM (
    SELECT *, sum(octet_length(payload)) OVER (ORDER BY position) AS bytes FROM outbox
    WHERE position > $1 AND position <= $2 ORDER BY position LIMIT $3
) AS next WHERE bytes - octet_length(payload) < $4 ORDER BY position
"""
LET_GO: Final = "DELETE FROM outbox WHERE position = ANY ($1::bigint[])"


@dataclasses.dataclass(frozen=True)
class Horizon:
    """``position`` had been drawn before transaction ``next_xid`` began."""

    position: int
    next_xid: int


class Relay:
    """One relay at work. ``confirm_in_events`` is False where ``events`` is in another database:
    then a row leaves when NATS has acknowledged its event."""

    def __init__(self, pool: Pool, bus: Bus, *, confirm_in_events: bool) -> None:
        self._pool = pool
        self._bus = bus
        self._confirm_in_events = confirm_in_events
        self._cursor = 0
        self._ahead: set[int] = set()
        self._horizon: Horizon | None = None
        self._cursor_moved_at = 0.0
        self._oldest: int | None = None
        self._is_behind = False
        self._woken = asyncio.Event()
        self._looked_back_after = -1  # so many reconnects

    async def run(self) -> None:
        """Relays for ever."""
        self._cursor = await self._pool.fetchval(READ_CURSOR)
        subscription = await self._bus.nc.subscribe(RECORDED_SUBJECT, cb=self._wake)
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(keep_streams(self._bus), name="streams")
                tasks.create_task(self._relay(), name="relay")
                tasks.create_task(self._confirm(), name="relay confirms")
        finally:
            with contextlib.suppress(NatsError):
                await subscription.unsubscribe()

    async def _wake(self, _: object) -> None:
        self._woken.set()

    async def _relay(self) -> None:
        while True:
            looked_at = self._now()
            self._woken.clear()
            try:
                await self.relay_batch()
            except PublishFailed as error:
                log.warning("events wait in the outbox: %s", error)
                await asyncio.sleep(RETRY_AFTER)
                continue
            if not self._is_behind:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._woken.wait(), timeout=POLL_EVERY)
                await asyncio.sleep(looked_at + AT_MOST_EVERY - self._now())

    async def relay_batch(self) -> int:
        """Publishes what has appeared, up to one batch, and says how many that were."""
        await self._look_back()
        rows = await self._pool.fetch(READ, self._cursor, list(self._ahead), MOST, MOST_BYTES)
        self._is_behind = len(rows) == MOST or _size(rows) >= MOST_BYTES
        if rows:
            if self._bus.nc.stats["reconnects"] != self._looked_back_after:
                raise PublishFailed("NATS came back meanwhile: what it has forgotten comes first")
            await publish_all(self._bus, _outgoing(rows))
            metrics.RELAYED.inc(len(rows))
            self._ahead.update(row["position"] for row in rows)
        if len(self._ahead) >= MOST or self._now() - self._cursor_moved_at > MOVE_CURSOR_EVERY:
            await self._move_cursor()
            self._cursor_moved_at = self._now()
        return len(rows)

    async def _look_back(self) -> None:
        """Once a connection: a server that forgot the end of its stream is told it again before
        anything newer, or a resource's events would change their order."""
        reconnects = self._bus.nc.stats["reconnects"]
        if reconnects == self._looked_back_after:
            return
        if await has_forgotten(self._pool, self._bus, self._cursor, list(self._ahead)):
            self._ahead.clear()  # they are read again
            passed = 0
            while rows := await self._pool.fetch(OVERDUE, passed, self._cursor, MOST, MOST_BYTES):
                await self._publish_again(rows)
                passed = rows[-1]["position"]
        self._looked_back_after = reconnects

    @staticmethod
    def _now() -> float:
        return asyncio.get_running_loop().time()

    async def _move_cursor(self) -> None:
        """Advances towards the horizon, as far as all is read, once every transaction that drew
        positions below it has ended."""
        if not self._ahead and self._horizon is None:
            return
        if self._horizon is None:
            position = await self._pool.fetchval(LAST_DRAWN)
            # Only now: whoever drew that position had its id by then.
            self._horizon = Horizon(position, await self._pool.fetchval(NEXT_XID))
        if await self._pool.fetchval(OLDEST_RUNNING) < self._horizon.next_xid:
            return
        # Whatever will ever be below the horizon can be read by now.
        unread = await self._first_unread()
        if unread is not None and unread <= self._horizon.position:
            self._cursor = max(self._cursor, unread - 1)
        else:
            self._cursor = max(self._cursor, self._horizon.position)
            self._horizon = None
        self._ahead = {position for position in self._ahead if position > self._cursor}
        await self._pool.execute(MOVE_CURSOR, self._cursor)

    async def _first_unread(self) -> int | None:
        """The lowest position that is to be read next."""
        rows = await self._pool.fetch(READ, self._cursor, list(self._ahead), 1, 1)
        return rows[0]["position"] if rows else None

    async def _confirm(self) -> None:
        """Confirms for ever; publishes again what stays behind although it has been read."""
        pause, patience = CONFIRM_EVERY, LOST_AFTER
        overdue, since = self._oldest, self._now()
        stored: int | None = None  # the stream's end when it was noticed that nothing moves
        while True:
            await asyncio.sleep(pause)
            gone = await self.confirm()
            pause = CONFIRM_EVERY if gone else min(2 * pause, CONFIRM_AT_LEAST_EVERY)
            if self._oldest is None or self._oldest != overdue:
                overdue, since, stored, patience = self._oldest, self._now(), None, LOST_AFTER
            elif stored is None:
                stored = await self._stored() if self._is_published(self._oldest) else None
            elif self._now() - since > patience and await self._has_read(stored):
                await self.see_to_overdue()
                patience, since = 2 * patience, self._now()

    def _is_published(self, position: int) -> bool:
        return position <= self._cursor or position in self._ahead

    async def confirm(self) -> int:
        """Lets rows go whose events have arrived, and says how many these were."""
        low = min(self._cursor, (self._oldest or 1) - 1)
        gone = 0
        if not self._confirm_in_events:
            gone = _count(await self._pool.execute(CONFIRM_BY_ACK, self._cursor, list(self._ahead)))
        while self._confirm_in_events:
            confirmed = await self._pool.fetch(CONFIRM, low, CONFIRM_AT_ONCE)
            self._ahead.difference_update(row["position"] for row in confirmed)
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
            after, last = 0, self._cursor
            while rows := await self._pool.fetch(OVERDUE, after, last, MOST, MOST_BYTES):
                after = rows[-1]["position"]
                await self._let_go([row for row in rows if str(row["id"]) in buried])
                await self._publish_again([row for row in rows if str(row["id"]) not in buried])
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

    async def _publish_again(self, rows: Sequence[asyncpg.Record]) -> None:
        if rows:
            log.error(
                "NATS lost events that it had stored: publishing again", extra={"count": len(rows)}
            )
            metrics.RELAYED_AGAIN.inc(len(rows))
            await publish_all(self._bus, _outgoing(rows))


def _size(rows: Sequence[asyncpg.Record]) -> int:
    return sum(len(row["payload"]) for row in rows)


def _outgoing(rows: Sequence[asyncpg.Record]) -> list[Outgoing]:
    return [Outgoing(row["id"], row["subject"], row["payload"]) for row in rows]


def _count(status: str) -> int:
    """The rows of a command's status, such as ``DELETE 12``."""
    return int(status.rpartition(" ")[2])


async def relay_while_leading(pool: Pool, bus: Bus, *, confirm_in_events: bool) -> None:
    """Relays whenever this process is the one to; comes back after every outage."""

    async def relay() -> None:
        while True:
            try:
                await Relay(pool, bus, confirm_in_events=confirm_in_events).run()
            except* AWAY as away:
                log.warning("relay: PostgreSQL is away: %s", _first(away.exceptions))
            await asyncio.sleep(RETRY_AFTER)

    await while_leading(pool, LEASE, relay)


def _first(errors: Sequence[BaseException]) -> BaseException:
    error = errors[0]
    return _first(error.exceptions) if isinstance(error, BaseExceptionGroup) else error
