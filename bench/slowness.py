"""Measure the effects of a slow PostgreSQL: events come 100 times faster than it stores them.

    python -m bench.slowness [--seconds 60] [--coming 5000] [--stored 50] [--persisters 2]

A trigger on ``events`` limits the rows stored in a second, over all connections together. It is
removed afterwards. Servers and processes of mediabus are real, in a temporary directory.
"""

import argparse
import asyncio
import contextlib
import time
from collections import defaultdict

import psutil

from bench.servers import Stack, event, mediabus, process, stack, until
from mediabus.schemas.subjects import EVENTS_STREAM
from mediabus.service.outbox.publish import publish_all
from tests.support.slowness import memory_of, storing_slowly

AT_ONCE = 500


async def publish(it: Stack, coming: int, seconds: int) -> int:
    """Publish ``coming`` events per second. Return the number of events."""
    started = time.perf_counter()
    for number in range(seconds * coming // AT_ONCE):
        await publish_all(it.bus, [event() for _ in range(AT_ONCE)])
        due = started + (number + 1) * AT_ONCE / coming
        await asyncio.sleep(max(0.0, due - time.perf_counter()))
    return seconds * coming // AT_ONCE * AT_ONCE


async def most_memory() -> dict[str, float]:
    """Record the maximum memory of the processes of each name, in MB, until cancelled.

    Shared buffers count for each process of PostgreSQL.
    """
    most: dict[str, float] = defaultdict(float)
    with contextlib.suppress(asyncio.CancelledError):
        while True:
            for one in psutil.Process().children(recursive=True):
                with contextlib.suppress(psutil.NoSuchProcess, OSError, StopIteration):
                    name = one.cmdline()[-1] if one.name() == "mediabus" else one.name()
                    most[name] = max(most[name], memory_of(one.pid))
            await asyncio.sleep(0.25)
    return most


async def _is_stored(it: Stack, events: int) -> bool:
    return bool(await it.pool.fetchval("SELECT count(*) >= $1 FROM events", events))


async def run(seconds: int, coming: int, stored: int, persisters: int) -> None:
    """Limit PostgreSQL for some time, let the persisters catch up, and print the results."""
    async with contextlib.AsyncExitStack() as opened:
        it = await opened.enter_async_context(stack())
        for _ in range(persisters):
            persister = process(*mediabus("persist"), environment=it.environment)
            await opened.enter_async_context(persister)
        await publish_all(it.bus, [event()])
        await until(lambda: _is_stored(it, 1))
        watching = asyncio.create_task(most_memory())
        async with storing_slowly(it.pool, stored):
            published = 1 + await publish(it, coming, seconds)
            info = await it.bus.js.consumer_info(EVENTS_STREAM, "persister")
            behind = (info.num_pending or 0) + (info.num_ack_pending or 0)
            slowly = await it.pool.fetchval("SELECT count(*) FROM events")
        started = time.perf_counter()
        await until(lambda: _is_stored(it, published), every=0.25)
        took = time.perf_counter() - started
        await asyncio.sleep(1)
        rows = await it.pool.fetchval("SELECT count(*) FROM events")
        info = await it.bus.js.consumer_info(EVENTS_STREAM, "persister")
        deliveries = info.delivered.consumer_seq if info.delivered else 0
        watching.cancel()
        most = await watching
    print(f"{seconds} s with {coming} events/s coming and {stored} stored, {persisters} persisters")
    print(f"published {published}, stored meanwhile {slowly}, behind at the end {behind}")
    print(f"afterwards caught up in {took:.1f} s, {(published - slowly) / took:,.0f} events/s")
    print(f"rows {rows}, lost {published - rows}, delivered again {deliveries - published}")
    print(
        "maximum memory, MB: " + ", ".join(f"{name} {mb:.0f}" for name, mb in sorted(most.items()))
    )


def main() -> None:
    """Run the benchmark and print the results."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--coming", type=int, default=5000)
    parser.add_argument("--stored", type=int, default=50)
    parser.add_argument("--persisters", type=int, default=2)
    arguments = parser.parse_args()
    asyncio.run(run(**vars(arguments)))


if __name__ == "__main__":
    main()
