"""Store events in PostgreSQL: one statement per batch, idempotent.

A large batch is tried as COPY first, which is cheaper and fails if an event is stored already.

A row that cannot be stored does not fail the rest of its batch.
"""

import asyncio
import datetime
import logging
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

import asyncpg
import msgspec

from mediabus.consumers.event_row import COLUMNS, NAMES, TYPED, EventRow
from mediabus.consumers.persister.isolation import Isolation, Progress, is_reachable
from mediabus.consumers.verdict import Rejected, RetryLater
from mediabus.runtime import metrics
from mediabus.runtime.error_text import error_text
from mediabus.runtime.postgres.database import AWAY, Pool

log: Final = logging.getLogger("mediabus.persister")

OLDEST_ACCEPTED: Final = datetime.timedelta(days=3660)
NEWEST_ACCEPTED: Final = datetime.timedelta(days=2)
"""Events up to ten years old and one day ahead are stored, plus a day for clocks that differ."""

STORE_TIMEOUT: Final = 60.0
MAX_BYTES: Final = 2_000_000
"""Bytes of events in one statement: some thousand events of usual size."""

Month = tuple[int, int]
"""Year and month in UTC. ``events`` has one partition per month."""

COPY_FROM: Final = 100
"""Rows from which a batch is first tried as COPY: that takes two thirds of the CPU of an INSERT in
PostgreSQL, and one more round trip. COPY fails as a whole if a single row exists already."""

COPY_AGAIN_AFTER: Final = 60.0
"""Seconds without COPY after it failed: a duplicate, such as one of a redelivery, is rarely alone,
and PostgreSQL logs each failure."""

# One parameter for the whole batch: a tenth of the cost of unnest in asyncpg, and cheaper for the
# server than JSON_TABLE.
STORE: Final = f"""
INSERT INTO events ({NAMES})
SELECT * FROM json_to_recordset($1::json) AS batch ({TYPED})
ON CONFLICT DO NOTHING
"""  # noqa: S608 - constants
# An event without a time gets the time of its message, which differs when it is published again.
# So only id and source identify it.
STORE_UNTIMED: Final = f"""
INSERT INTO events ({NAMES})
SELECT DISTINCT ON (source, id) {NAMES} FROM json_to_recordset($1::json) AS batch ({TYPED})
WHERE NOT EXISTS (SELECT FROM events AS e WHERE e.id = batch.id AND e.source = batch.source)
ORDER BY source, id, stream_seq
ON CONFLICT DO NOTHING
"""  # noqa: S608 - constants
MISSING: Final = """
SELECT count(DISTINCT id)
FROM unnest($1::uuid[], $2::timestamptz[], $3::boolean[]) AS asked (id, occurred_at, has_time)
WHERE NOT EXISTS (
    SELECT FROM events AS e
    WHERE e.id = asked.id AND (e.occurred_at = asked.occurred_at OR NOT asked.has_time))
"""
# Run only if a row was not inserted.
CONFLICTS: Final = """
SELECT sent.stream_seq FROM json_to_recordset($1::json) AS sent (
    id uuid, occurred_at timestamptz, stream_seq bigint, type text, source text, data jsonb,
    message bytea)
JOIN events AS e ON e.id = sent.id AND e.occurred_at = sent.occurred_at
WHERE (e.type, e.source, e.data) IS DISTINCT FROM (sent.type, sent.source, sent.data)
   OR (e.data = '{}' AND e.message <> sent.message)  -- data that is not JSON is in message
"""
ENSURE_PARTITION: Final = "SELECT ensure_events_partition($1)"


class EventStore:
    """Writes to the table ``events``."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._months: set[Month] = set()
        self._no_copy_until = 0.0
        self.progress = Progress()
        self.stored = 0
        """Number of events that this store inserted."""

    async def missing(self, batch: Sequence[EventRow]) -> int:
        """Count the events of a batch that can be stored but are not in the table."""
        now = datetime.datetime.now(datetime.UTC)
        storable = [row for row in batch if _refusal(row, now) is None]
        count: int = await self._pool.fetchval(
            MISSING,
            [row.id for row in storable],
            [row.occurred_at for row in storable],
            [row.has_time for row in storable],
        )
        return count

    async def store(self, batch: Sequence[EventRow]) -> list[Exception | None]:
        """Store a batch of events. Wait while PostgreSQL is unreachable.

        Returns, for each event, None once it is committed, or why it is not stored.
        """
        now = datetime.datetime.now(datetime.UTC)
        outcomes = [_refusal(row, now) for row in batch]
        storable = [index for index, outcome in enumerate(outcomes) if outcome is None]
        with metrics.PERSIST_SECONDS.time():
            for part in _parts(batch, storable):
                failures = await self._store_rows([batch[index] for index in part])
                for place, error in failures.items():
                    outcomes[part[place]] = error
        return outcomes

    async def _store_rows(self, rows: Sequence[EventRow]) -> dict[int, Exception]:
        """Commit rows. Return the errors of those that are not stored, by index."""
        months = [_month(row) for row in rows]
        closed = await self._without_partition(dict(zip(months, rows, strict=True)))
        storable = [index for index, month in enumerate(months) if month not in closed]
        duplicates: list[EventRow] = []

        async def write(some: Sequence[EventRow]) -> None:
            duplicates.extend(await self._insert(some))

        isolation = Isolation(self._pool, self.progress, write, key=lambda row: row.stream_seq)
        found = await isolation.store([rows[index] for index in storable])
        failures = {storable[index]: error for index, error in found.items()}
        failures |= {i: closed[month] for i, month in enumerate(months) if month in closed}
        return failures | await self._conflicts(rows, duplicates)

    async def _insert(self, rows: Sequence[EventRow]) -> Sequence[EventRow]:
        """Insert rows. Return all of them if some existed before."""
        try:
            inserted = await self._insert_once(rows)
        except asyncpg.CheckViolationError:  # a partition was dropped since we created it
            self._months.clear()
            await self._make_partitions(rows)
            inserted = await self._insert_once(rows)
        self.stored += inserted
        return rows if inserted < len(rows) else ()

    async def _insert_once(self, rows: Sequence[EventRow]) -> int:
        """Insert the rows that do not exist yet. Return their number."""
        timed = [row for row in rows if row.has_time]
        inserted = await self._insert_timed(timed) if timed else 0
        if len(timed) < len(rows):
            inserted += await self._insert_untimed([row for row in rows if not row.has_time])
        return inserted

    async def _insert_timed(self, rows: Sequence[EventRow]) -> int:
        if len(rows) >= COPY_FROM and await self._copied(rows):
            return len(rows)
        return _count(await self._pool.execute(STORE, _as_json(rows), timeout=STORE_TIMEOUT))

    async def _copied(self, rows: Sequence[EventRow]) -> bool:
        """Try to store rows by COPY. Return False if none is stored.

        Rows that PostgreSQL refuses are left to INSERT, whose errors decide about them.
        """
        now = asyncio.get_running_loop().time()
        if now < self._no_copy_until:
            return False
        try:
            await self._pool.copy_records_to_table(
                "events",
                columns=list(COLUMNS),
                records=[row.values() for row in rows],
                timeout=STORE_TIMEOUT,
            )
        except AWAY:
            raise
        except asyncpg.PostgresError as error:
            log.debug("batch not copied", extra={"reason": error_text(error)})
            self._no_copy_until = now + COPY_AGAIN_AFTER
            return False
        return True

    async def _insert_untimed(self, rows: Sequence[EventRow]) -> int:
        """Insert rows that no unique index covers.

        If two processes insert the same event at once, PostgreSQL fails one of the serializable
        transactions, and that process retries.
        """
        async with (
            self._pool.acquire() as connection,
            connection.transaction(isolation="serializable"),
        ):
            status = await connection.execute(STORE_UNTIMED, _as_json(rows), timeout=STORE_TIMEOUT)
        return _count(status)

    async def _conflicts(
        self, rows: Sequence[EventRow], duplicates: Sequence[EventRow]
    ) -> dict[int, Exception]:
        """Find the rows whose id and time belong to a different event, which was stored before."""
        if not duplicates:
            return {}
        payload = msgspec.json.encode(duplicates).decode()
        try:
            found = await self._pool.fetch(CONFLICTS, payload, timeout=STORE_TIMEOUT)
        except (*AWAY, asyncpg.PostgresError) as error:
            return dict.fromkeys(range(len(rows)), RetryLater(error_text(error)))
        places = {row["stream_seq"] for row in found}
        conflict = Rejected("another event with the same id and time is stored already")
        return {index: conflict for index, row in enumerate(rows) if row.stream_seq in places}

    async def _without_partition(self, needed: Mapping[Month, EventRow]) -> dict[Month, RetryLater]:
        """Create the partitions that rows need. Return the errors of those that fail, by month."""
        closed: dict[Month, RetryLater] = {}
        for month in needed.keys() - self._months:
            try:
                await self._make_partitions([needed[month]])
            except (*AWAY, asyncpg.PostgresError) as error:
                if not await is_reachable(self._pool):
                    return {}  # storing the rows waits until it is reachable
                year, number = month
                reason = f"cannot create the partition {year}-{number:02}: {error}"
                log.warning("events not stored, will retry", extra={"reason": reason})
                self.progress.problem = reason
                closed[month] = RetryLater(reason)
        return closed

    async def _make_partitions(self, rows: Sequence[EventRow]) -> None:
        for month, row in {_month(row): row for row in rows}.items():
            await self._pool.execute(ENSURE_PARTITION, row.occurred_at)
            self._months.add(month)


def _as_json(rows: Sequence[EventRow]) -> str:
    return msgspec.json.encode(rows).decode()


def _count(status: str) -> int:
    """Parse the number of rows in a command's status, such as ``INSERT 0 12``."""
    return int(status.rpartition(" ")[2])


def _parts(batch: Sequence[EventRow], indexes: Sequence[int]) -> Iterator[list[int]]:
    """Split the indexes of a batch into parts for one statement each.

    An event is in memory several times on its way to PostgreSQL, so a part ends with the event that
    exceeds ``MAX_BYTES``.
    """
    part: list[int] = []
    size = 0
    for index in indexes:
        part.append(index)
        row = batch[index]
        size += len(row.data) + len(row.message or "")
        if size >= MAX_BYTES:
            yield part
            part = []
            size = 0
    if part:
        yield part


def _month(row: EventRow) -> Month:
    moment = row.occurred_at.astimezone(datetime.UTC)
    return moment.year, moment.month


def _refusal(row: EventRow, now: datetime.datetime) -> Exception | None:
    moment = row.occurred_at
    if now - OLDEST_ACCEPTED <= moment <= now + NEWEST_ACCEPTED:
        return None
    return Rejected(
        f"time {moment.isoformat()} is more than ten years ago or more than a day ahead"
    )
