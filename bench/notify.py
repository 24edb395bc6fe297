"""Measure the notifier: events to three targets, one of which is dead.

    python -m bench.notify [--events 10000]

The same number of events goes to two webhooks that accept: first alone, then next to a third one
that refuses every connection. A dead target must not slow the others, and memory must stay flat.
The receivers run in the same process. Each event is acknowledged, and its report stored, on disk.
"""

import argparse
import asyncio
import contextlib
import logging
import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final

import psutil
import uvloop
from aiohttp import web
from rich.console import Console

from bench.report import Section, show
from bench.servers import Failed, until
from mediabus.consumers.notifier.run import notify
from mediabus.consumers.notifier.settings import NotifierConfig, parsed
from mediabus.runtime.embedded import data_dir_lock, embedded_nats
from mediabus.runtime.nats.bus import Bus, connect
from mediabus.runtime.nats.notifier_bucket import ensure_notifier_bucket
from mediabus.runtime.nats.streams import ensure_streams
from mediabus.runtime.process.live import Live
from mediabus.runtime.settings import NatsSettings, NotifierSettings, Settings
from mediabus.schemas.events import JobExecuted
from mediabus.schemas.identity import Actor
from tests.support.ports import free_port

HOST: Final = "127.0.0.1"
AT_ONCE: Final = 100
"""Events published concurrently."""

LEAST_SPEED: Final = 0.7
"""The least speed of the live targets next to a dead one, as a part of that without one."""

MOST_GROWTH_MB: Final = 30.0
"""The most that memory may grow over the second half of the events."""


class Receiver:
    """Counts the webhooks of each target. Each path is a target."""

    def __init__(self) -> None:
        self.ids: dict[str, list[str]] = {}

    async def handle(self, request: web.Request) -> web.Response:
        """Accept a webhook."""
        self.ids.setdefault(request.path.strip("/"), []).append(request.headers["webhook-id"])
        return web.Response(status=204)

    def least(self, targets: tuple[str, ...]) -> int:
        """Return how many messages the slowest of the targets has."""
        return min(len(self.ids.get(target, ())) for target in targets)


@contextlib.asynccontextmanager
async def _receiving(receiver: Receiver, port: int) -> AsyncIterator[None]:
    application = web.Application()
    application.router.add_post("/{target}", receiver.handle)
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, HOST, port).start()
        yield
    finally:
        await runner.cleanup()


@contextlib.asynccontextmanager
async def _nats() -> AsyncIterator[Bus]:
    with tempfile.TemporaryDirectory(prefix="mediabus-bench-") as folder:
        async with data_dir_lock(Path(folder)) as data_dir, embedded_nats(data_dir) as url:
            settings = NatsSettings(url=url)
            async with connect(settings, name="bench", wait=10) as bus:
                await ensure_streams(bus, settings)
                await ensure_notifier_bucket(bus, settings)
                yield bus


def _config(urls: dict[str, str]) -> NotifierConfig:
    targets = [
        {"name": name, "webhook": url, "events": ["job.executed"]} for name, url in urls.items()
    ]
    config = parsed(Settings(notify=targets, notifier=NotifierSettings(allowed_hosts=[HOST])))
    if config is None:
        raise Failed("there is no target")
    return config


@contextlib.asynccontextmanager
async def _notifying(bus: Bus, config: NotifierConfig) -> AsyncIterator[None]:
    task = asyncio.create_task(notify(bus, Live(config).values()))
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])


async def _publish(bus: Bus, events: int) -> None:
    for start in range(0, events, AT_ONCE):
        numbers = range(start, min(start + AT_ONCE, events))
        await asyncio.gather(
            *(
                bus.publish(JobExecuted(job_name=f"job {n}"), actor=Actor("job", "bench"))
                for n in numbers
            )
        )


async def _delivered(
    bus: Bus, receiver: Receiver, urls: dict[str, str], live: tuple[str, ...], events: int
) -> tuple[float, float]:
    """Return events a second of the slowest live target, and the megabytes of growth."""
    config = _config(urls)

    async def is_known() -> bool:
        names = {info.name for info in await bus.js.consumers_info("EVENTS")}
        return {target.durable for target in config.targets} <= names

    async def have(count: int) -> bool:
        return receiver.least(live) >= count

    async with _notifying(bus, config):  # its consumers begin here
        await until(is_known)
    await _publish(bus, events)
    began = time.perf_counter()
    async with _notifying(bus, config):
        await until(lambda: have(events // 2), within=900)
        half = _megabytes()
        ended = await until(lambda: have(events), within=900)
        growth = _megabytes() - half
    for target in live:
        if len(set(receiver.ids[target])) != len(receiver.ids[target]):
            raise Failed(f"{target} got an event twice")
    return events / (ended - began), growth


def _megabytes() -> float:
    return float(psutil.Process().memory_info().rss) / 1e6


async def measure(events: int, least_speed: float = LEAST_SPEED) -> Section:
    """Return the speed of two live targets, without and with a dead one next to them.

    Raises Failed if the second is less than ``least_speed`` of the first, or memory grows.
    """
    section = Section("notifications to two live targets")
    receiver, port = Receiver(), free_port()
    async with _nats() as bus, _receiving(receiver, port):
        for live, dead in ((("a", "b"), False), (("c", "d"), True)):
            urls = {name: f"http://{HOST}:{port}/{name}" for name in live}
            if dead:
                urls["dead"] = f"http://{HOST}:{free_port()}/dead"
            speed, growth = await _delivered(bus, receiver, urls, live, events)
            case = "next to a dead one" if dead else "alone"
            section.add(f"each target, {case}", "events/s", speed)
            section.add(f"growth of memory, {case}", "MB", growth)
    _check(section, least_speed)
    return section


def _check(section: Section, least_speed: float) -> None:
    """Raise Failed if a dead target slows the others, or memory grows."""
    alone = section.figures["each target, alone"].median
    with_dead = section.figures["each target, next to a dead one"].median
    if with_dead < least_speed * alone:
        raise Failed(f"{with_dead:.0f} events/s next to a dead target, {alone:.0f} without it")
    growth = section.figures["growth of memory, next to a dead one"].median
    if growth > MOST_GROWTH_MB:
        raise Failed(f"memory grew by {growth:.0f} MB; {MOST_GROWTH_MB:g} are allowed")


def main() -> None:
    """Run the benchmark and print the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=10_000)
    logging.disable(logging.WARNING)  # of the dead target
    show(Console(), uvloop.run(measure(parser.parse_args().events)))


if __name__ == "__main__":
    main()
