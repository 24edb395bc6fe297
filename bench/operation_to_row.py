"""Measure the time from the request of an operation to the visible row of its event."""

import asyncio
import contextlib
import datetime
import statistics
import time
from collections.abc import AsyncIterator
from functools import partial
from typing import Final

import asyncpg

from bench import aims
from bench.load import at_rate, create, in_flight
from bench.report import Section
from bench.servers import Stack, answers, mediabus, process, stack, until
from mediabus.runtime.postgres.database import Connection, Pool

FLOOD: Final = 64
WARM_UP: Final = 1.0
SINCE: Final = "SELECT data ->> 'title' AS title FROM events WHERE occurred_at >= $1"
# A table that grows from empty has no statistics. PostgreSQL would scan all of it for each query,
# which took up to 40 % of a core from what is measured.
READ_THE_INDEX: Final = {"enable_seqscan": "off"}


async def measure(operations: int, seconds: float, runs: int) -> Section:
    """Measure the maximum rate, and the latency at 100/s, 1,000/s and half of the maximum."""
    section = Section(aims.VISIBLE)
    async with stack() as it, _processes(it):
        for _ in range(runs):
            answered, stored = await _flood(it, operations)
            section.add("maximum, answered", "operations/s", answered)
            section.add("maximum, rows visible", "operations/s", stored)
            half = section.figures["maximum, rows visible"].median / 2
            for name, rate in {"100/s": 100, "1,000/s": 1000, "half of the maximum": half}.items():
                await until(lambda: _is_quiet(it.pool))
                p50, p99 = await _latency(it, rate, seconds)
                section.add(f"at {name}, p50", "ms", p50)
                section.add(f"at {name}, p99", "ms", p99)
            await it.pool.execute("TRUNCATE media_items CASCADE")
    section.note(
        f"media.create over NATS to the service process, the relay in it and one persister. "
        f"Maximum: {operations:,} operations, {FLOOD} in flight. Latencies: {seconds:g} s at a "
        f"steady rate, from the request until a reader of the table sees the row, {runs} runs."
    )
    return section


@contextlib.asynccontextmanager
async def _processes(it: Stack) -> AsyncIterator[None]:
    async with (
        process(*mediabus("service"), environment=it.environment),
        process(*mediabus("persist"), environment=it.environment),
    ):
        await until(lambda: answers(it.bus, "media.list"), within=30)
        await until(lambda: answers(it.bus, "history.count"), within=30)
        await create(it.bus, "media.create", "The first")
        await until(partial(_has, it.pool, 1), within=30)
        yield


async def _has(pool: Pool, rows: int) -> bool:
    return bool(await pool.fetchval("SELECT count(*) >= $1 FROM events", rows))


async def _is_quiet(pool: Pool) -> bool:
    """Return whether the previous load is finished."""
    return bool(await pool.fetchval("SELECT NOT EXISTS (SELECT FROM outbox)"))


async def _flood(it: Stack, operations: int) -> tuple[float, float]:
    """Return operations per second: answered, and with stored rows."""
    before = await it.pool.fetchval("SELECT count(*) FROM events")
    operation = partial(create, it.bus, "media.create", "A show")
    started = time.perf_counter()
    answered, _ = await in_flight(operation, operations, FLOOD)
    stored = await until(partial(_has, it.pool, before + operations)) - started
    return answered, operations / stored


async def _latency(it: Stack, rate: float, seconds: float) -> tuple[float, float]:
    """Return p50 and p99 in milliseconds."""
    asked: dict[str, float] = {}
    took: list[float] = []
    reader = await asyncpg.connect(it.database_url, server_settings=READ_THE_INDEX)
    watching = asyncio.create_task(_watch(reader, asked, took))

    async def all_seen() -> bool:
        return not asked

    await at_rate(it.bus, rate, seconds + WARM_UP, asked)
    await until(all_seen)
    watching.cancel()
    await asyncio.wait([watching])
    await reader.close()
    cuts = statistics.quantiles(took[int(rate * WARM_UP) :], n=100)
    return cuts[49] * 1000, cuts[98] * 1000


async def _watch(reader: Connection, asked: dict[str, float], took: list[float]) -> None:
    """Query the rows of the requested shows every 2 ms."""
    while True:
        oldest = min(asked.values(), default=time.perf_counter())
        ago = datetime.timedelta(seconds=time.perf_counter() - oldest + 0.01)
        for row in await reader.fetch(SINCE, datetime.datetime.now(datetime.UTC) - ago):
            began = asked.pop(row["title"], None)
            if began is not None:
                took.append(time.perf_counter() - began)
        await asyncio.sleep(0.002)
