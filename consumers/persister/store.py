"""Writing events into PostgreSQL: a batch in one statement, idempotent, one bad row never
dragging the others along."""

import asyncio
import datetime
import logging
from collections.abc import Sequence
from typing import Final
from uuid import UUID

import asyncpg
import msgspec

from consumers.daemon import Delivery
from consumers.verdict import Rejected
from service.runtime import metrics
from service.runtime.database import AWAY, Pool

log: Final = logging.getLogger("mediabus.persister")

OLDEST_ACCEPTED: Final = datetime.timedelta(days=3660)
NEWEST_ACCEPTED: Final = datetime.timedelta(days=2)
"""Ten years back and the next day, with room for clocks that differ."""

REFUSED: Final = (
    asyncpg.DataError,
    asyncpg.IntegrityConstraintViolationError,
    asyncpg.ProgramLimitExceededError,  # a name too long for an index
)
"""What PostgreSQL raises where a row itself is at fault."""

STORE_WITHIN: Final = 60.0
RETRY_FIRST: Final = 0.1
RETRY_LONGEST: Final = 5.0

# One parameter for the whole batch: a tenth of what unnest costs in asyncpg, and cheaper for the
# server than JSON_TABLE. COPY would be cheaper still, but a single duplicate refuses it.
STORE: Final = """
INSERT INTO events (id, occurred_at, stream_seq, category, type, severity, source, actor_type,
                    actor_id, resource_type, resource_id, correlation_id, causation_id, data)
SELECT * FROM json_to_recordset($1::json) AS batch (
    id             uuid,
    occurred_at    timestamptz,
    stream_seq     bigint,
    category       text,
    type           text,
    severity       text,
    source         text,
    actor_type     text,
    actor_id       text,
    resource_type  text,
    resource_id    text,
    correlation_id text,
    causation_id   text,
    data           jsonb
)
ON CONFLICT DO NOTHING
"""
MISSING: Final = """
SELECT count(DISTINCT id) FROM unnest($1::uuid[], $2::timestamptz[]) AS asked (id, occurred_at)
WHERE NOT EXISTS (
    SELECT FROM events AS e WHERE e.id = asked.id AND e.occurred_at = asked.occurred_at)
"""
ENSURE_PARTITION: Final = "SELECT ensure_events_partition($1)"


class _Row(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An event as the columns of ``events``."""

    id: UUID
    occurred_at: datetime.datetime
    stream_seq: int
    category: str
    type: str
    severity: str
    source: str
    actor_type: str | None = None
    actor_id: str | None = None
    resource_type: str | None = None
    resource_id: str | None = None
    correlation_id: str | None = None
    causation_id: str | None = None
    data: msgspec.Raw


def _row(delivery: Delivery) -> _Row:
    envelope = delivery.envelope
    actor, resource = envelope.actor, envelope.resource
    return _Row(
        id=envelope.id,
        occurred_at=envelope.time,
        stream_seq=delivery.stream_seq,
        category=envelope.category,
        type=envelope.type,
        severity=envelope.severity,
        source=envelope.source,
        actor_type=actor.type if actor else None,
        actor_id=actor.id if actor else None,
        resource_type=resource.type if resource else None,
        resource_id=resource.id if resource else None,
        correlation_id=envelope.correlation_id,
        causation_id=envelope.causation_id,
        data=envelope.data,
    )


class EventStore:
    """The table ``events``, written to."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._months: set[tuple[int, int]] = set()
        self.stored = 0
        """Events written by this one that were not there before."""

    async def missing(self, batch: Sequence[Delivery]) -> int:
        """How many events of a batch could be stored and are not."""
        now = datetime.datetime.now(datetime.UTC)
        storable = [one.envelope for one in batch if _refusal(one, now) is None]
        count: int = await self._pool.fetchval(
            MISSING, [one.id for one in storable], [one.time for one in storable]
        )
        return count

    async def store(self, batch: Sequence[Delivery]) -> list[Exception | None]:
        """Commits the batch and answers, for each event, None or why it can never be stored.
        While PostgreSQL is away it waits: for ever."""
        now = datetime.datetime.now(datetime.UTC)
        outcomes = [_refusal(delivery, now) for delivery in batch]
        accepted = [place for place, refusal in enumerate(outcomes) if refusal is None]
        with metrics.PERSIST_SECONDS.time():
            refused = await self._store_rows([_row(batch[place]) for place in accepted])
        for index, error in refused.items():
            outcomes[accepted[index]] = error
        return outcomes

    async def _store_rows(self, rows: list[_Row]) -> dict[int, Exception]:
        """Commits rows and answers which of them, by index, are refused: found by halving."""
        if not rows:
            return {}
        try:
            await self._write(rows)
        except REFUSED as error:
            return await self._isolate(rows, error)
        except TimeoutError:
            return await self._halves(rows)
        return {}

    async def _isolate(self, rows: list[_Row], error: Exception) -> dict[int, Exception]:
        if len(rows) == 1:
            return {0: Rejected(f"PostgreSQL refuses it: {error}")}
        return await self._halves(rows)

    async def _halves(self, rows: list[_Row]) -> dict[int, Exception]:
        middle = len(rows) // 2
        left = await self._store_rows(rows[:middle])
        right = await self._store_rows(rows[middle:])
        return left | {index + middle: refusal for index, refusal in right.items()}

    async def _write(self, rows: list[_Row]) -> None:
        payload = msgspec.json.encode(rows).decode()
        try:
            await self._insert(rows, payload)
        except asyncpg.CheckViolationError:  # a month that was made here, and dropped since
            self._months.clear()
            await self._insert(rows, payload)

    async def _insert(self, rows: list[_Row], payload: str) -> None:
        delay = RETRY_FIRST
        while True:
            try:
                await self._ensure_partitions(rows)
                status = await self._pool.execute(STORE, payload, timeout=STORE_WITHIN)
            except AWAY as error:
                if isinstance(error, TimeoutError) and len(rows) > 1:
                    raise  # never would a batch be done for which the server is too slow
                log.warning("events wait for PostgreSQL", extra={"reason": str(error)})
                await asyncio.sleep(delay)
                delay = min(2 * delay, RETRY_LONGEST)
            else:
                self.stored += int(status.rpartition(" ")[2])  # INSERT 0 12
                return

    async def _ensure_partitions(self, rows: list[_Row]) -> None:
        moments = [row.occurred_at.astimezone(datetime.UTC) for row in rows]
        months = {(moment.year, moment.month): moment for moment in moments}
        for month in months.keys() - self._months:
            await self._pool.execute(ENSURE_PARTITION, months[month])
            self._months.add(month)


def _refusal(delivery: Delivery, now: datetime.datetime) -> Exception | None:
    moment = delivery.envelope.time
    if now - OLDEST_ACCEPTED <= moment <= now + NEWEST_ACCEPTED:
        return None
    return Rejected(
        f"time {moment.isoformat()} is more than ten years ago or more than a day ahead"
    )
