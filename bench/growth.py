"""Measure an hour of steady load: the memory of each process, and the bytes of each event.

    python -m bench.growth [--minutes 60] [--rate 2000] [--operations 50]

Events are published at ``--rate`` per second, of which ``--operations`` come from operations over
NATS that change the monitoring of media items. All are about the same downloads and media items:
nats-server keeps each subject in memory, so new ones would be growth of its own. Memory is measured
after the first tenth of the time, in which caches fill.
"""

import argparse
import asyncio
import contextlib
import random
import time
from collections.abc import AsyncIterator, Sequence
from typing import Final

import msgspec
import psutil
import uvloop
from rich.console import Console

from bench.__main__ import keep
from bench.load import request
from bench.report import Section, header, show
from bench.servers import Stack, answers, event, mediabus, process, stack, until
from mediabus.runtime.nats.bus import PublishFailed
from mediabus.schemas.identity import uuid7
from mediabus.schemas.subjects import EVENTS_STREAM
from mediabus.service.outbox.publish import MAX_BATCH_MESSAGES, Outgoing, publish_all

BATCHES_A_SECOND: Final = 20
DOWNLOADS: Final = 10_000
MEDIA_ITEMS: Final = 1_000

SAMPLE_EVERY: Final = 5.0
FLAT_WITHIN: Final = 1.05
MEGABYTE: Final = 1e6

SIZES: Final = """
SELECT sum(pg_table_size(relid)) AS rows, sum(pg_indexes_size(relid)) AS indexes
FROM pg_partition_tree('events')
"""
LOG_SINCE: Final = "SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), $1)"

Memory = dict[str, list[float]]
"""Samples of the memory of each process, in megabytes."""


async def measure(seconds: float, rate: int, operations: int) -> Section:
    """Run the load, and measure its results."""
    section = Section("growth")
    async with stack() as it, _processes(it) as processes:
        media = [await _media_item(it) for _ in range(MEDIA_ITEMS)]
        log_began = await it.pool.fetchval("SELECT pg_current_wal_lsn()")
        memory: Memory = {}
        sampling = asyncio.create_task(_sample(processes, memory))
        began = time.perf_counter()
        async with asyncio.TaskGroup() as tasks:
            publishing = tasks.create_task(_publish(it, rate - operations, seconds))
            tasks.create_task(_operate(it, media, operations, seconds))
        took = time.perf_counter() - began
        published = publishing.result() + int(operations * seconds)

        async def all_stored() -> bool:
            stored: int = await it.pool.fetchval("SELECT count(*) FROM events")
            return stored >= published + len(media)

        behind = await until(all_stored, every=0.5) - began - took
        sampling.cancel()
        section.add("events", "events/s", published / took)
        section.add("last row after the last event", "s", behind)
        await _bytes(section, it, published, log_began)
    _memory(section, memory)
    section.note(f"{published:,} events in {took / 60:.1f} minutes.")
    return section


@contextlib.asynccontextmanager
async def _processes(it: Stack) -> AsyncIterator[dict[str, psutil.Process]]:
    """Return the processes to sample, by name."""
    async with (
        process(*mediabus("service"), environment=it.environment) as service,
        process(*mediabus("monitor"), environment=it.environment) as monitor,
        process(*mediabus("persist"), environment=it.environment) as persist,
    ):
        await until(lambda: answers(it.bus, "media.list"), within=30)
        await until(lambda: answers(it.bus, "history.count"), within=30)
        ours = {"service": service, "monitor": monitor, "persist": persist}
        found = {name: psutil.Process(one.pid) for name, one in ours.items()}
        for child in psutil.Process().children():
            if child.name() in {"nats-server", "postgres"}:
                found[child.name()] = child
        yield found


async def _publish(it: Stack, rate: int, seconds: float) -> int:
    """Publish at a steady rate. Return the number of events."""
    began, done = time.perf_counter(), 0
    library = [uuid7() for _ in range(DOWNLOADS)]
    batch: list[Outgoing] = []
    while (elapsed := time.perf_counter() - began) < seconds:
        due = int(rate * elapsed) - done
        batch = batch or [
            event(random.choice(library)) for _ in range(min(due, MAX_BATCH_MESSAGES))
        ]
        if batch:
            with contextlib.suppress(PublishFailed):  # retried with the same ids
                await publish_all(it.bus, batch)
                done, batch = done + len(batch), []
        await asyncio.sleep(1 / BATCHES_A_SECOND)
    return done


async def _media_item(it: Stack) -> str:
    """Add a TV show and return its id."""
    reply = await request(it.bus, "media.create", {"type": "tv_show", "title": uuid7().hex})
    return str(msgspec.json.decode(reply)["id"])


async def _operate(it: Stack, media: Sequence[str], rate: int, seconds: float) -> None:
    """Change the monitoring of one media item after the other, off and on again."""
    began = time.perf_counter()
    for number in range(int(rate * seconds)):
        await asyncio.sleep(max(0.0, began + number / rate - time.perf_counter()))
        turn, place = divmod(number, len(media))
        body = {"ids": [media[place]], "monitored": turn % 2 == 1}
        await request(it.bus, "media.set_monitored", body)


async def _sample(processes: dict[str, psutil.Process], memory: Memory) -> None:
    while True:
        for name, one in processes.items():
            memory.setdefault(name, []).append(_megabytes(one))
        await asyncio.sleep(SAMPLE_EVERY)


def _megabytes(one: psutil.Process) -> float:
    """Return the resident memory of a process, or the unshared memory of PostgreSQL's processes."""
    if one.name() != "postgres":
        return float(one.memory_info().rss) / MEGABYTE
    total = 0.0
    for each in (one, *one.children()):
        with contextlib.suppress(psutil.NoSuchProcess):
            total += each.memory_full_info().uss
    return total / MEGABYTE


def _memory(section: Section, memory: Memory) -> None:
    for name, samples in memory.items():
        counted = samples[len(samples) // 10 :]
        section.add(f"{name}, memory: first", "MB", counted[0])
        section.add(f"{name}, memory: last", "MB", counted[-1])
        section.add(f"{name}, memory: maximum", "MB", max(counted))
        if counted[-1] > counted[0] * FLAT_WITHIN:
            section.note(f"{name} grew by {counted[-1] / counted[0] - 1:.0%}: that is not flat.")


async def _bytes(section: Section, it: Stack, events: int, log_began: str) -> None:
    sizes = await it.pool.fetchrow(SIZES)
    assert sizes
    section.add("rows of events", "bytes/event", float(sizes["rows"]) / events)
    section.add("indexes of events", "bytes/event", float(sizes["indexes"]) / events)
    log = await it.pool.fetchval(LOG_SINCE, log_began)
    section.add("PostgreSQL's log, all tables", "bytes/event", float(log) / events)
    state = (await it.bus.js.stream_info(EVENTS_STREAM)).state
    section.add("the stream", "bytes/event", state.bytes / events)


def main() -> None:
    """Run the benchmark and print the results."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--rate", type=int, default=2000)
    parser.add_argument("--operations", type=int, default=50)
    arguments = parser.parse_args()
    console, head = Console(), header(quick=False)
    seconds = arguments.minutes * 60
    section = uvloop.run(measure(seconds, arguments.rate, arguments.operations))
    for name, value in head.items():
        console.print(f"{name:9} {value}", highlight=False)
    show(console, section)
    keep(head, [section], name="growth.json")


if __name__ == "__main__":
    main()
