"""Measure reads of a large history, and dropping a month of it."""

import datetime
import hashlib
import random
import statistics
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from typing import Final
from uuid import UUID

from bench import aims
from bench.history_rows import (
    ACTORS,
    EVENTS_OF_A_RESOURCE,
    MONTHS,
    TYPES,
    fill,
    month_starts,
    that_fit,
)
from bench.report import Section
from bench.servers import stack
from mediabus.consumers.history.query import History
from mediabus.consumers.persister.retention import drop_expired
from mediabus.runtime.postgres.database import Pool
from mediabus.schemas.identity import Actor
from mediabus.schemas.operations.requests import CountHistory, ListHistory

WHO: Final = Actor("user", "42")
DAYS: Final = datetime.timedelta(days=30)
HUNDREDTH: Final = 100
PAGE: Final = 50

# The query of Mydia: newest first, pages by OFFSET.
BY_OFFSET: Final = "SELECT * FROM events ORDER BY occurred_at DESC OFFSET $1 LIMIT $2"

Read = Callable[[], Awaitable[object]]


async def measure(small: int, large: int, reads: int) -> Section:
    """Measure pages of a ``small`` and a ``large`` table, ``reads`` times for each kind."""
    section = Section(aims.HISTORY)
    now = datetime.datetime.now(datetime.UTC)
    async with stack() as it:
        large = that_fit(section, large, it.data_dir)
        await fill(it.pool, small, now)
        every = [one async for _, took in _pages(it.pool, small, now, reads) for one in took]
        section.add("any page of the small table, p99", "ms", _p99(every))
        started = time.perf_counter()
        await fill(it.pool, large, now)
        section.note(
            f"{large:,} events in {MONTHS} partitions, made in {time.perf_counter() - started:.0f}"
            f" s; the small table has {small:,}. {reads} reads of each kind, {PAGE} events a page, "
            "by the reader's own code, without NATS."
        )
        every = []
        async for name, took in _pages(it.pool, large, now, reads):
            section.add(f"{name}, p50", "ms", statistics.median(took))
            section.add(f"{name}, p99", "ms", _p99(took))
            every += took
        section.add("any page, p99", "ms", _p99(every))
        await _others(section, it.pool, large, now)
    return section


async def _pages(
    pool: Pool, total: int, now: datetime.datetime, reads: int
) -> AsyncIterator[tuple[str, list[float]]]:
    """Return the milliseconds of each kind of page."""
    history, chance = History(pool), random.Random(7)

    async def times(read: Callable[[], ListHistory]) -> list[float]:
        for _ in range(6):  # PostgreSQL plans a statement again in its first five executions
            await history.list(read(), WHO, {})
        return [await _timed(lambda: history.list(read(), WHO, {})) for _ in range(reads)]

    def moment() -> datetime.datetime:
        return now - (now - month_starts(now)[0]) * chance.random()

    def resource() -> str:
        number = chance.randrange(max(1, total // EVENTS_OF_A_RESOURCE))
        return str(UUID(hashlib.md5(str(number).encode()).hexdigest()))

    yield "first page", await times(ListHistory)
    yield "page of a moment", await times(lambda: ListHistory(until=moment()))
    yield "page of a type", await times(lambda: ListHistory(type=chance.choice(TYPES)))
    yield "page of a resource", await times(lambda: ListHistory(resource_id=resource()))
    yield (
        "page of an actor",
        await times(lambda: ListHistory(actor_id=f"user-{chance.randrange(ACTORS)}")),
    )
    yield "hundredth page and on", await _deep(history, reads)


async def _deep(history: History, reads: int) -> list[float]:
    """Return cursors of pages after the ninety-ninth."""
    after, took = None, []
    for number in range(1, HUNDREDTH + reads):
        started = time.perf_counter()
        page = await history.list(ListHistory(after=after), WHO, {})
        if number >= HUNDREDTH:
            took.append((time.perf_counter() - started) * 1000)
        after = page.next
    return took


async def _others(section: Section, pool: Pool, total: int, now: datetime.datetime) -> None:
    """Add the comparison, the counts and the drop of a month."""
    history = History(pool)
    for page in (HUNDREDTH, min(total // PAGE, 100 * HUNDREDTH)):
        by_offset = partial(pool.fetch, BY_OFFSET, page * PAGE, PAGE)
        await _add(section, f"page {page:,} by OFFSET", by_offset)
    counted = CountHistory(since=now - DAYS)
    await _add(section, "count by type, 30 days", lambda: history.count(counted, WHO, {}))
    bytes_of = "SELECT sum(pg_total_relation_size(relid)) FROM pg_partition_tree('events')"
    before = await pool.fetchval(bytes_of)
    section.add("an event, with its indexes", "bytes", float(before) / total)
    started = time.perf_counter()
    dropped = await drop_expired(pool, MONTHS - 2, now)
    section.add("a month dropped", "ms", (time.perf_counter() - started) * 1000)
    gone = before - await pool.fetchval(bytes_of)
    section.note(f"Dropped: {', '.join(dropped)}, {gone / 2**20:,.0f} MiB.")


async def _add(section: Section, name: str, read: Read) -> None:
    await read()
    for _ in range(5):
        section.add(name, "ms", await _timed(read))


async def _timed(read: Read) -> float:
    """Return milliseconds."""
    started = time.perf_counter()
    await read()
    return (time.perf_counter() - started) * 1000


def _p99(values: list[float]) -> float:
    return statistics.quantiles(values, n=100)[98]
