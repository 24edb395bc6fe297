"""A notifier for tests: its settings, its clock, and what it has done."""

import asyncio
import contextlib
import datetime
from collections.abc import AsyncIterator
from typing import Any

import msgspec
from nats.js.errors import NotFoundError

from mediabus.consumers.notifier.run import notify
from mediabus.consumers.notifier.settings import NotifierConfig, parsed
from mediabus.runtime.nats.bus import Bus
from mediabus.runtime.nats.notifier_bucket import ensure_notifier_bucket
from mediabus.runtime.process.live import Live
from mediabus.runtime.settings import NatsSettings, NotifierSettings, Settings
from mediabus.schemas import codec
from mediabus.schemas.envelope import Envelope
from mediabus.schemas.events import JobExecuted, JobFailed
from mediabus.schemas.identity import Actor, Resource
from tests.support.eventually import eventually
from tests.support.stream import is_handled

JOB = Actor("job", "nightly")
LOCAL = ["127.0.0.1"]


class MovedClock:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.ahead = datetime.timedelta()

    def __call__(self) -> datetime.datetime:
        return datetime.datetime.now(datetime.UTC) + self.ahead

    def move(self, **by: float) -> None:
        self.ahead += datetime.timedelta(**by)


def config_of(*targets: dict[str, Any], **settings: Any) -> NotifierConfig:
    """Parse the settings of targets. Retries are quick unless the test says otherwise."""
    quick = {"retry_delays": ["0.05s"], "allowed_hosts": LOCAL}
    section = msgspec.convert({**quick, **settings}, NotifierSettings)
    config = parsed(Settings(notify=list(targets), notifier=section))
    assert config is not None
    return config


@contextlib.asynccontextmanager
async def notifying(
    bus: Bus,
    config: NotifierConfig,
    clock: MovedClock | None = None,
) -> AsyncIterator["asyncio.Task[None]"]:
    """Run a notifier, from the moment that NATS knows its consumers."""
    await ensure_notifier_bucket(bus, NatsSettings())
    task = asyncio.create_task(notify(bus, Live(config).values(), clock=clock or MovedClock()))
    names = {target.durable for target in config.targets if target.settings.enabled}

    async def is_known() -> bool:
        if task.done():
            await task
        with contextlib.suppress(NotFoundError, TimeoutError):  # importing Apprise takes seconds
            return all([await bus.js.consumer_info("EVENTS", name) for name in names])
        return False

    try:
        await eventually(is_known, within=30)
        yield task
    finally:
        task.cancel()
        await asyncio.wait([task])


async def publish(bus: Bus, *jobs: str, fails: bool = False, **options: Any) -> list[Envelope]:
    """Publish an event for each job."""
    made = JobFailed if fails else JobExecuted
    resource = Resource("thing", "1")
    return [
        await bus.publish(made(job_name=job), actor=JOB, resource=resource, **options)
        for job in jobs
    ]


async def events_in(bus: Bus, event_type: str) -> list[Envelope]:
    """Return all events of a type in the stream."""
    found = []
    last = (await bus.js.stream_info("EVENTS")).state.last_seq
    for seq in range(1, last + 1):
        message = await bus.js.get_msg("EVENTS", seq)
        envelope = codec.decode(message.data or b"", message.headers)
        if envelope.type == event_type:
            found.append(envelope)
    return found


async def is_idle(bus: Bus, target: str) -> bool:
    """Return whether a target has nothing left to do."""
    return await is_handled(bus, f"notify-{target}")


async def idle(bus: Bus, target: str, *, within: float = 30) -> None:
    """Wait until a target has nothing left to do."""
    await eventually(lambda: is_idle(bus, target), within=within)
