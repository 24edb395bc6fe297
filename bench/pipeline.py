"""How fast events travel: from the stream to a row, and from an operation to a row.

    python -m bench.pipeline [--events 100000] [--operations 10000] [--seconds 15] [--runs 3]

It runs real servers in a temporary directory (every acknowledgement on disk: ``sync_interval:
always``, ``fsync`` on) and mediabus' own processes beside them, and prints the median of the runs.
"""

import argparse
import asyncio
import contextlib
import datetime
import os
import platform
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from pathlib import Path
from typing import NamedTuple

import msgspec

from schemas import codec
from schemas.envelope import Envelope
from schemas.events import DownloadCompleted
from schemas.identity import Actor, Resource, uuid7
from schemas.subjects import EVENTS_STREAM, subject_of
from service.outbox.batch import MOST, Outgoing, publish_all
from service.runtime.bus import Bus, connect
from service.runtime.database import Pool, migrate, open_pool
from service.runtime.embedded import data_dir_lock, embedded_nats, embedded_postgres
from service.runtime.settings import DatabaseSettings, NatsSettings
from service.runtime.streams import ensure_streams

IN_FLIGHT = 64
ACTOR_HEADERS = {"Mediabus-Actor-Type": "user", "Mediabus-Actor-Id": "42"}


class Stack(NamedTuple):
    """Real servers, and connections to them."""

    bus: Bus
    pool: Pool
    environment: dict[str, str]


@contextlib.asynccontextmanager
async def stack() -> AsyncIterator[Stack]:
    """Servers with nothing in them."""
    with tempfile.TemporaryDirectory(prefix="mediabus-bench-") as folder:
        async with (
            data_dir_lock(Path(folder)) as data_dir,
            embedded_nats(data_dir) as nats_url,
            embedded_postgres(data_dir) as database_url,
            open_pool(DatabaseSettings(url=database_url)) as pool,
            connect(NatsSettings(url=nats_url), name="bench") as bus,
        ):
            await migrate(pool)
            await ensure_streams(bus, NatsSettings(url=nats_url))
            variables = {
                "MEDIABUS_NATS_URL": nats_url,
                "MEDIABUS_DATABASE_URL": database_url,
                "MEDIABUS_HTTP_PORT": "0",
                "MEDIABUS_LOG_LEVEL": "error",
            }
            yield Stack(bus, pool, {**os.environ, **variables})


@contextlib.asynccontextmanager
async def process(
    name: str, environment: dict[str, str]
) -> AsyncIterator[asyncio.subprocess.Process]:
    """One of mediabus' processes, by the name of its command."""
    mediabus = Path(sys.executable).with_name("mediabus")
    running = await asyncio.create_subprocess_exec(mediabus, name, env=environment)
    try:
        yield running
    finally:
        with contextlib.suppress(ProcessLookupError):
            running.send_signal(signal.SIGCONT)
            running.terminate()
        await running.wait()


def event() -> Outgoing:
    """An event of the usual size, about 500 bytes."""
    download = uuid7()
    envelope = Envelope.of(
        DownloadCompleted(
            download_id=download,
            title="Dune.Part.One.2021.2160p.WEB-DL",
            client="home",
            client_item=download.hex,
            size=23_622_320_128,
            duration=1234.5,
            save_path="/downloads/movies",
        ),
        actor=Actor("system", "download_monitor"),
        resource=Resource("download", str(download)),
    )
    return Outgoing(envelope.id, subject_of(envelope), codec.encode(envelope))


async def until(condition: Callable[[], Awaitable[object]], every: float = 0.05) -> None:
    """Waits for a condition, a minute or two at the most."""
    async with asyncio.timeout(180):
        while not await condition():  # noqa: ASYNC110 - it asks other processes
            await asyncio.sleep(every)


async def stream_to_row(it: Stack, events: int) -> float:
    """Events a second that one persister process takes from the stream into ``events``."""
    async with process("persist", it.environment) as persister:
        await publish_all(it.bus, [event()])
        await until(lambda: _is_stored(it, 1))
        stored = await it.pool.fetchval("SELECT count(*) FROM events")
        persister.send_signal(signal.SIGSTOP)
        batch = [event() for _ in range(events)]
        for start in range(0, events, MOST):
            await publish_all(it.bus, batch[start : start + MOST])
        started = time.perf_counter()
        persister.send_signal(signal.SIGCONT)
        await until(lambda: _is_read(it.bus))
        took = time.perf_counter() - started
        assert await it.pool.fetchval("SELECT count(*) FROM events") == stored + events
    return events / took


async def _is_stored(it: Stack, count: int) -> bool:
    return bool(await it.pool.fetchval("SELECT count(*) >= $1 FROM events", count))


async def _is_read(bus: Bus) -> bool:
    info = await bus.js.consumer_info(EVENTS_STREAM, "persister")
    return not info.num_pending and not info.num_ack_pending


async def operation_to_row(it: Stack, operations: int) -> tuple[float, float]:
    """Operations a second over NATS with 64 in flight: answered, and with their rows stored."""
    async with process("service", it.environment), process("persist", it.environment):
        await until(lambda: _answers(it.bus))
        before = await it.pool.fetchval("SELECT count(*) FROM events")
        numbers = iter(range(operations))
        started = time.perf_counter()
        await asyncio.gather(*(_create(it.bus, numbers) for _ in range(IN_FLIGHT)))
        answered = time.perf_counter() - started
        await until(lambda: _is_stored(it, before + operations), every=0.02)
        stored = time.perf_counter() - started
    return operations / answered, operations / stored


async def _create(bus: Bus, numbers: Iterable[int]) -> None:
    for number in numbers:
        request = {"type": "tv_show", "title": f"A show with the number {number}"}
        body = msgspec.json.encode(request)
        reply = await bus.nc.request("media.create", body, timeout=30, headers=ACTOR_HEADERS)
        if reply.headers:
            raise SystemExit(reply.data.decode())


async def _answers(bus: Bus) -> bool:
    with contextlib.suppress(Exception):
        await bus.nc.request("media.list", b"{}", timeout=1)
        return True
    return False


async def latency(it: Stack, rate: int, seconds: float) -> tuple[float, float]:
    """Milliseconds, p50 and p99, from asking for an operation to its event's row being visible,
    at ``rate`` operations a second."""
    async with process("service", it.environment), process("persist", it.environment):
        await until(lambda: _answers(it.bus))
        asked: dict[str, float] = {}
        took: list[float] = []
        watching = asyncio.create_task(_watch(it.pool, asked, took))
        await _ask_at(it.bus, rate, seconds, asked)
        await until(lambda: _all_seen(asked))
        watching.cancel()
    cuts = statistics.quantiles(took[rate:], n=100)  # the first second warms up
    return cuts[49] * 1000, cuts[98] * 1000


async def _ask_at(bus: Bus, rate: int, seconds: float, asked: dict[str, float]) -> None:
    started = time.perf_counter()
    async with asyncio.TaskGroup() as tasks:
        for number in range(int(rate * seconds)):
            due = started + number / rate
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            tasks.create_task(_create_timed(bus, uuid7().hex, asked))


async def _create_timed(bus: Bus, title: str, asked: dict[str, float]) -> None:
    asked[title] = time.perf_counter()
    body = msgspec.json.encode({"type": "tv_show", "title": title})
    await bus.nc.request("media.create", body, timeout=30, headers=ACTOR_HEADERS)


async def _all_seen(asked: dict[str, float]) -> bool:
    return not asked


SINCE = "SELECT data ->> 'title' AS title FROM events WHERE occurred_at >= $1"


async def _watch(pool: Pool, asked: dict[str, float], took: list[float]) -> None:
    while True:
        oldest = min(asked.values(), default=time.perf_counter())
        ago = datetime.timedelta(seconds=time.perf_counter() - oldest + 0.01)
        for row in await pool.fetch(SINCE, datetime.datetime.now(datetime.UTC) - ago):
            began = asked.pop(row["title"], None)
            if began is not None:
                took.append(time.perf_counter() - began)
        await asyncio.sleep(0.002)


async def one_run(arguments: argparse.Namespace) -> dict[str, float]:
    """Every figure once, on fresh servers."""
    async with stack() as it:
        figures = {"stream to row, events/s": await stream_to_row(it, arguments.events)}
    async with stack() as it:
        answered, stored = await operation_to_row(it, arguments.operations)
        figures["operation to reply, operations/s"] = answered
        figures["operation to row, operations/s"] = stored
    async with stack() as it:
        p50, p99 = await latency(it, 100, arguments.seconds)
        figures["operation to row at 100/s, p50 ms"] = p50
        figures["operation to row at 100/s, p99 ms"] = p99
    return figures


AIMS = {
    "stream to row, events/s": ">= 20,000",
    "operation to row, operations/s": ">= 1,500",
    "operation to row at 100/s, p50 ms": "<= 20",
    "operation to row at 100/s, p99 ms": "<= 60",
}


def main() -> None:
    """Runs and prints."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--events", type=int, default=100_000)
    parser.add_argument("--operations", type=int, default=10_000)
    parser.add_argument("--seconds", type=float, default=15)
    parser.add_argument("--runs", type=int, default=3)
    arguments = parser.parse_args()
    print(f"Python {platform.python_version()}, {os.cpu_count()} cores, {platform.machine()}")
    runs = []
    for number in range(arguments.runs):
        runs.append(asyncio.run(one_run(arguments)))
        print(f"run {number + 1} of {arguments.runs} done", file=sys.stderr)
    print(f"{'median of ' + str(arguments.runs):40} {'figure':>10}  {'range':>20}  aim")
    for name in runs[0]:
        values = [run[name] for run in runs]
        spread = f"{min(values):,.1f} to {max(values):,.1f}"
        print(f"{name:40} {statistics.median(values):>10,.1f}  {spread:>20}  {AIMS.get(name, '')}")


if __name__ == "__main__":
    main()
