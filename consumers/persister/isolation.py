"""Store a batch even if some of its rows cannot be stored. Bisection finds those rows.

No list of errors decides which rows are at fault. While PostgreSQL is unreachable, the batch waits.
Any other error may be caused by the server or by a row: it is the row if other rows are stored in
the meantime.
"""

import asyncio
import dataclasses
import logging
import random
from collections.abc import Awaitable, Callable, Hashable, Sequence
from typing import Final, Generic, TypeVar

import asyncpg

from mediabus.consumers.verdict import Rejected, RetryLater
from mediabus.runtime.error_text import error_text
from mediabus.runtime.postgres.database import Pool

log: Final = logging.getLogger("mediabus.persister")

REFUSED: Final = (
    asyncpg.DataError,
    asyncpg.IntegrityConstraintViolationError,
    asyncpg.ProgramLimitExceededError,  # a name too long for an index
    asyncpg.RaiseError,  # raised by a trigger
)
"""Errors that a row always causes. The list only saves time: other errors are isolated as well."""

FIRST_DELAY: Final = 0.1
MAX_DELAY: Final = 5.0
PING_TIMEOUT: Final = 5.0
HOLD_FOR: Final = 5.0
"""Seconds to retry a batch before it is returned to the consumer for a later delivery."""

MAX_SUSPECTS: Final = 20_000
SAMPLES: Final = 3
"""Rows that are stored alone to test whether the server stores anything at all."""

Row = TypeVar("Row")


class NotStored(Exception):
    """PostgreSQL did not store an event although it stored others in the meantime.

    The event is redelivered a few times and then dead-lettered.
    """


@dataclasses.dataclass
class Progress:
    """The progress of all batches of one process.

    ``stored_at`` is when a row was last stored, by the event loop's clock. ``problem`` is why
    nothing was stored since.
    """

    stored_at: float = 0.0
    problem: str | None = None
    suspects: set[Hashable] = dataclasses.field(default_factory=set)
    """Rows that were not stored while others were."""

    def stored(self) -> None:
        """Record that rows were committed."""
        self.stored_at = asyncio.get_running_loop().time()
        self.problem = None


class Isolation(Generic[Row]):
    """Stores rows with ``write``, which commits all given rows or raises.

    ``key`` identifies a row across redeliveries.
    """

    def __init__(
        self,
        pool: Pool,
        progress: Progress,
        write: Callable[[Sequence[Row]], Awaitable[None]],
        key: Callable[[Row], Hashable],
    ) -> None:
        self._pool = pool
        self._progress = progress
        self._write = write
        self._key = key
        self._now = asyncio.get_running_loop().time

    async def store(self, rows: Sequence[Row]) -> dict[int, Exception]:
        """Commit rows. Return the errors of those that are not stored, by index."""
        return await self._store(rows, None)

    async def _store(
        self, rows: Sequence[Row], failing_since: float | None
    ) -> dict[int, Exception]:
        if not rows:
            return {}
        error = await self._attempt(rows)
        if error is None:
            return {}
        if isinstance(error, REFUSED):
            return await self._blame(rows, Rejected(f"PostgreSQL refuses it: {error}"), None)
        if isinstance(error, TimeoutError) and len(rows) > 1:
            return await self._bisect(rows, failing_since)  # the server may just be slow
        return await self._retry(rows, error, failing_since or self._now())

    async def _attempt(self, rows: Sequence[Row]) -> Exception | None:
        """Write rows and return PostgreSQL's error, if any. Wait while it is unreachable."""
        delay = FIRST_DELAY
        while True:
            try:
                await self._write(rows)
            except Exception as error:  # noqa: BLE001 - a list of errors would be incomplete
                self._progress.problem = error_text(error)
                if await is_reachable(self._pool):
                    return error
            else:
                self._progress.stored()
                return None
            log.warning("events wait for PostgreSQL", extra={"reason": self._progress.problem})
            await asyncio.sleep(delay)
            delay = min(2 * delay, MAX_DELAY)

    async def _retry(
        self, rows: Sequence[Row], error: Exception, since: float
    ) -> dict[int, Exception]:
        """Retry rows that failed with an error that the server may have caused."""
        deadline = self._now() + HOLD_FOR
        delay = FIRST_DELAY
        while True:
            if len(rows) > 1 and self._progress.stored_at > since:
                return await self._bisect(rows, since)
            await asyncio.sleep(delay)
            delay = min(2 * delay, MAX_DELAY)
            again = await self._attempt(rows)
            if again is None:
                return {}
            if isinstance(again, REFUSED):
                return await self._blame(rows, Rejected(f"PostgreSQL refuses it: {again}"), since)
            error = again
            if self._is_at_fault(rows, since) or await self._stores_one_of(rows):
                return await self._blame(rows, NotStored(error_text(error)), since)
            if self._now() > deadline:
                log.warning("batch not stored, will retry", extra={"reason": error_text(error)})
                return {index: RetryLater(error_text(error)) for index in range(len(rows))}

    def _is_at_fault(self, rows: Sequence[Row], since: float) -> bool:
        """Return whether others were stored in the meantime, now or at an earlier delivery."""
        suspects = self._progress.suspects
        is_suspect = len(rows) == 1 and self._key(rows[0]) in suspects
        return self._progress.stored_at > since or is_suspect

    async def _stores_one_of(self, rows: Sequence[Row]) -> bool:
        """Store some rows alone. Return whether the server stored any."""
        if len(rows) == 1:
            return False
        for row in random.sample(rows, min(SAMPLES, len(rows))):
            if await self._attempt([row]) is None:
                return True
        return False

    async def _blame(
        self, rows: Sequence[Row], error: Exception, since: float | None
    ) -> dict[int, Exception]:
        if len(rows) > 1:
            return await self._bisect(rows, since)
        if len(self._progress.suspects) < MAX_SUSPECTS:
            self._progress.suspects.add(self._key(rows[0]))
        return {0: error}

    async def _bisect(self, rows: Sequence[Row], since: float | None) -> dict[int, Exception]:
        middle = len(rows) // 2
        left = await self._store(rows[:middle], since)
        right = await self._store(rows[middle:], since)
        return left | {index + middle: error for index, error in right.items()}


async def is_reachable(pool: Pool) -> bool:
    """Return whether PostgreSQL answers a query."""
    try:
        async with asyncio.timeout(PING_TIMEOUT):
            await pool.fetchval("SELECT 1")
    except Exception:  # noqa: BLE001 - any error means that it does not answer
        return False
    return True
