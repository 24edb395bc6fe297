"""Send requests to the operations over NATS, many in flight or at a steady rate."""

import asyncio
import statistics
import time
from collections.abc import Awaitable, Callable

import msgspec

from bench.servers import ACTOR_HEADERS, Failed
from mediabus.runtime.nats.bus import Bus
from mediabus.schemas.identity import uuid7

Operation = Callable[[], Awaitable[object]]


async def create(bus: Bus, subject: str, title: str) -> None:
    """Request that a TV show is added. Raises Failed if the request fails."""
    await request(bus, subject, {"type": "tv_show", "title": title})


async def request(bus: Bus, subject: str, body: object) -> bytes:
    """Return the reply of an operation. Raises Failed if the request fails."""
    encoded = msgspec.json.encode(body)
    reply = await bus.nc.request(subject, encoded, timeout=30, headers=ACTOR_HEADERS)
    if reply.headers:
        raise Failed(reply.data.decode())
    return reply.data


async def in_flight(operation: Operation, count: int, many: int) -> tuple[float, float]:
    """Return the operations per second with ``many`` in flight, and their median milliseconds."""
    took: list[float] = []

    async def work() -> None:
        while len(took) < count:
            began = time.perf_counter()
            await operation()
            took.append(time.perf_counter() - began)

    began = time.perf_counter()
    await asyncio.gather(*(work() for _ in range(many)))
    return len(took) / (time.perf_counter() - began), statistics.median(took) * 1000


async def at_rate(bus: Bus, rate: float, seconds: float, asked: dict[str, float]) -> None:
    """Request TV shows at a steady rate. ``asked`` maps each title to the time of its request."""
    started = time.perf_counter()

    async def ask(title: str) -> None:
        asked[title] = time.perf_counter()
        await create(bus, "media.create", title)

    async with asyncio.TaskGroup() as tasks:
        for number in range(int(rate * seconds)):
            due = started + number / rate
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            tasks.create_task(ask(uuid7().hex))
