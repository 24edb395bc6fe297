"""The notifier killed at random moments: nothing is lost, and each double is accounted for."""

import asyncio
import contextlib
import os
import random
import signal
import sys
from collections import Counter
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from mediabus.runtime.nats.bus import Bus
from mediabus.runtime.nats.notifier_bucket import ensure_notifier_bucket
from mediabus.runtime.settings import NatsSettings
from tests.support.eventually import eventually
from tests.support.notifying import events_in, idle, publish
from tests.support.receiver import Receiver, receiving

KILLS = 20
EVENTS = 160

RUN = """
import asyncio, os, signal, sys
from mediabus.consumers import daemon
from mediabus.consumers.notifier.run import notify
from mediabus.consumers.notifier.settings import parsed
from mediabus.runtime.nats import pull
from mediabus.runtime.nats.bus import connect
from mediabus.runtime.process.live import Live
from mediabus.runtime.settings_file import load

daemon.ACK_WAIT = pull.ACK_WAIT = 1.0  # seconds until NATS gives the event to another process

async def main():
    settings = load(sys.argv[1])
    async with connect(settings.nats, name="notifier") as bus:
        await notify(bus, Live(parsed(settings)).values())

signal.signal(signal.SIGCHLD, signal.SIG_IGN)
for line in sys.stdin:  # a line asks for a notifier
    child = os.fork()
    if child == 0:
        asyncio.run(main())
    print(child, flush=True)
"""


class Notifiers:
    """Starts notifiers as forks of a process that has imported everything, which is fast."""

    def __init__(self, parent: asyncio.subprocess.Process) -> None:
        self._parent = parent
        self._child = 0

    async def start(self) -> None:
        assert self._parent.stdin is not None
        assert self._parent.stdout is not None
        self._parent.stdin.write(b"start\n")
        self._child = int(await self._parent.stdout.readline())

    def kill(self) -> None:
        os.kill(self._child, signal.SIGKILL)


@contextlib.asynccontextmanager
async def notifiers(directory: Path, settings: str) -> AsyncIterator[Notifiers]:
    config = directory / "mediabus.toml"
    config.write_text(settings)
    parent = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        RUN,
        str(config),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    made = Notifiers(parent)
    try:
        await made.start()
        yield made
    finally:
        made.kill()
        parent.kill()
        await parent.wait()


def settings(nats_url: str, plain: Receiver, digest: Receiver) -> str:
    return f"""
[nats]
url = "{nats_url}"
[notifier]
allowed_hosts = ["127.0.0.1"]
retry_delays = ["0.1s"]
[[notify]]
name = "plain"
webhook = "{plain.url}"
events = ["job.*"]
[[notify]]
name = "digest"
webhook = "{digest.url}"
events = ["job.*"]
digest = "0.3s"
"""


async def is_there(bus: Bus) -> bool:
    names = {info.name for info in await bus.js.consumers_info("EVENTS")}
    return {"notify-plain", "notify-digest"} <= names


async def publish_slowly(bus: Bus, jobs: list[str], receiver: Receiver) -> None:
    """Publish events, a few ahead of what the receiver has got."""
    for number, job in enumerate(jobs):
        await eventually(lambda: number <= len(receiver.accepted) + 12, within=120)  # noqa: B023 - awaited here
        await publish(bus, job)


@pytest.mark.slow
@pytest.mark.timeout(240)
async def test_kill_9_at_twenty_moments_loses_nothing_and_doubles_only_what_was_under_way(
    bus: Bus, nats_url: str, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    chance = random.Random(20)
    jobs = [f"{number:03}" for number in range(EVENTS)]
    async with receiving() as plain, receiving() as digest:
        await ensure_notifier_bucket(bus, NatsSettings())
        async with notifiers(tmp_path, settings(nats_url, plain, digest)) as notifier:
            await eventually(lambda: is_there(bus), within=60)
            publishing = asyncio.create_task(publish_slowly(bus, jobs, plain))
            for _ in range(KILLS):
                wanted = len(plain.received) + chance.randint(1, 5)
                await eventually(lambda: len(plain.received) >= wanted, within=60, every=0.002)  # noqa: B023 - awaited here
                await asyncio.sleep(chance.random() * 0.01)  # anywhere in a delivery
                notifier.kill()
                await notifier.start()
            await publishing
            await idle(bus, "plain", within=60)
            await idle(bus, "digest", within=60)
    for receiver in (plain, digest):
        counts = Counter(receiver.jobs)
        assert sorted(counts) == jobs
        assert list(dict.fromkeys(receiver.jobs)) == jobs
        doubles = sum(counts.values()) - len(jobs)
        record_property("doubles", doubles)
        ids = Counter(one.webhook_id for one in receiver.accepted)
        assert sum(count - 1 for count in ids.values()) <= KILLS
        assert all(count <= KILLS for count in ids.values())
        assert doubles == sum(
            len(one.events) for at, one in enumerate(receiver.accepted) if is_repeated(receiver, at)
        )
    reported = [
        event_id
        for one in await events_in(bus, "notification.delivered")
        for event_id in one.fields()["event_ids"]
    ]
    assert len(set(reported)) == EVENTS


def is_repeated(receiver: Receiver, at: int) -> bool:
    """Whether this message was accepted before. Then it was the one before it."""
    same = receiver.accepted[at].webhook_id
    seen = [one.webhook_id for one in receiver.accepted[:at]]
    assert same not in seen[:-1] or seen[-1] == same
    return same in seen
