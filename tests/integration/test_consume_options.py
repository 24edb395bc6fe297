"""`consume()` with options: concurrency, order, batches, retry policies, and SIGTERM."""

import asyncio
import contextlib
import signal
import sys
from collections import defaultdict
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest

import mediabus
from mediabus.consumers.consume import consume
from mediabus.consumers.dead_letters import DeadLetters
from mediabus.consumers.verdict import RetryPolicy
from mediabus.runtime.nats.bus import Bus
from mediabus.runtime.settings import NatsSettings
from mediabus.schemas.envelope import Envelope
from mediabus.schemas.events import JobExecuted
from mediabus.schemas.identity import Actor, Resource
from tests.support.eventually import eventually
from tests.support.stream import is_handled

JOB = Actor("job", "nightly")
QUICK = RetryPolicy(delays=(0.02,), jitter=0)


@contextlib.asynccontextmanager
async def consuming(nats_url: str, handle: Any, **options: Any) -> AsyncIterator[None]:
    work = consume("mine", handle, from_start=True, settings=NatsSettings(url=nats_url), **options)
    task = asyncio.create_task(work)
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])


async def publish(bus: Bus, *names: str) -> None:
    """Publish an event for each name; what stands before its dot is the resource."""
    for name in names:
        resource = Resource("thing", name.partition(".")[0])
        await bus.publish(JobExecuted(job_name=name), actor=JOB, resource=resource)


def name_of(envelope: Envelope) -> str:
    return str(envelope.fields()["job_name"])


async def is_done(bus: Bus) -> bool:
    names = [info.name for info in await bus.js.consumers_info("EVENTS")]
    return "mine" in names and await is_handled(bus, "mine")


class Gate:
    """A handler that holds events until the test opens it, and notes how many it holds."""

    def __init__(self) -> None:
        self.now: list[str] = []
        self.done: list[str] = []
        self.is_open = asyncio.Event()

    async def __call__(self, envelope: Envelope) -> None:
        self.now.append(name_of(envelope))
        await self.is_open.wait()
        self.now.remove(name_of(envelope))
        self.done.append(name_of(envelope))


async def test_concurrency_runs_so_many_handlers_and_no_more(bus: Bus, nats_url: str) -> None:
    gate = Gate()
    await publish(bus, *(f"{number}." for number in range(10)))
    async with consuming(nats_url, gate, concurrency=4):
        await eventually(lambda: len(gate.now) == 4)
        await asyncio.sleep(0.2)  # time enough for a fifth
        assert len(gate.now) == 4
        gate.is_open.set()
        await eventually(lambda: is_done(bus))
    assert len(gate.done) == 10


async def test_order_by_resource_delays_no_other_resource(bus: Bus, nats_url: str) -> None:
    tries: dict[str, int] = defaultdict(int)
    done: list[str] = []

    async def handle(envelope: Envelope) -> None:
        name = name_of(envelope)
        tries[name] += 1
        if name == "a.1" and tries[name] < 5:
            raise OSError("away")
        done.append(name)

    events = [f"{resource}.{number}" for number in (1, 2, 3) for resource in "abc"]
    await publish(bus, *events)
    async with consuming(nats_url, handle, concurrency=2, order_by="resource", retry=QUICK):
        await eventually(lambda: is_done(bus))
    for resource in "abc":
        mine = [name for name in done if name.startswith(resource)]
        assert mine == [f"{resource}.{number}" for number in (1, 2, 3)]
    assert done.index("c.3") < done.index("a.1")
    assert tries["a.1"] == 5


async def test_a_resource_continues_after_its_failed_event(bus: Bus, nats_url: str) -> None:
    done: list[str] = []

    async def handle(envelope: Envelope) -> None:
        if name_of(envelope) == "a.1":
            raise OSError("broken")
        done.append(name_of(envelope))

    await publish(bus, "a.1", "a.2")
    await bus.js.publish("events.system.job.executed.-", b"no event")
    policy = RetryPolicy(delays=(0.01,), limit=3)
    async with consuming(nats_url, handle, order_by="resource", retry=policy):
        await eventually(lambda: is_done(bus))
    letters = await DeadLetters(bus).all()
    assert done == ["a.2"]
    assert "OSError: broken, 3 times" in {letter.reason for letter in letters}
    assert {letter.kind for letter in letters} == {"failed", "invalid"}


async def test_order_by_stream_holds_events_behind_a_failed_one(bus: Bus, nats_url: str) -> None:
    seen: list[str] = []

    async def handle(envelope: Envelope) -> None:
        seen.append(name_of(envelope))
        if seen.count("a.1") < 4:
            raise mediabus.RetryLater("away", after=0.05)

    await publish(bus, "a.1", "b.1", "c.1")
    async with (
        consuming(nats_url, handle, order_by="stream"),
        consuming(nats_url, handle, order_by="stream"),
    ):
        await eventually(lambda: is_done(bus))
    assert seen == ["a.1"] * 4 + ["b.1", "c.1"]


async def test_only_the_bad_event_of_a_batch_is_dead_lettered(bus: Bus, nats_url: str) -> None:
    batches: list[list[str]] = []

    async def handle(envelopes: Sequence[Envelope]) -> None:
        names = [name_of(envelope) for envelope in envelopes]
        batches.append(names)
        if "c." in names:
            raise mediabus.Rejected("broken")

    await publish(bus, "a.", "b.", "c.", "d.")
    async with consuming(nats_url, handle, batch=100):
        await eventually(lambda: is_done(bus))
    [letter] = await DeadLetters(bus).all()
    assert letter.reason == "broken"
    assert sum(len(batch) for batch in batches if "c." not in batch) == 3
    assert max(map(len, batches)) > 1


async def test_a_batch_that_cannot_be_handled_now_is_redelivered(bus: Bus, nats_url: str) -> None:
    batches: list[int] = []

    async def handle(envelopes: Sequence[Envelope]) -> None:
        batches.append(len(envelopes))
        if len(batches) < 3:
            raise mediabus.RetryLater("disk full", after=0.02)

    await publish(bus, "a.")
    async with consuming(nats_url, handle, batch=10):
        await eventually(lambda: is_done(bus))
    assert batches == [1, 1, 1]


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"concurrency": 0}, "at least 1"),
        ({"batch": 0}, "at least 1"),
        ({"batch": 2, "order_by": "resource"}, "cannot be combined"),
        ({"concurrency": 2, "order_by": "stream"}, "one event at a time"),
    ],
)
async def test_options_that_contradict_each_other_are_refused(
    options: dict[str, Any], reason: str
) -> None:
    with pytest.raises(ValueError, match=reason):
        await consume("mine", Gate(), **options)


@pytest.mark.parametrize("policy", [{"delays": ()}, {"delays": (-1,)}, {"jitter": 2}, {"limit": 0}])
def test_a_retry_policy_that_makes_no_sense_is_refused(policy: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="RetryPolicy"):
        RetryPolicy(**policy)


PROGRAM = """
import asyncio, sys
import mediabus

async def handle(envelope):
    print("began", envelope.fields()["job_name"], flush=True)
    await asyncio.sleep(float(sys.argv[1]))
    print("finished", envelope.fields()["job_name"], flush=True)

async def main():
    await mediabus.consume("mine", handle, from_start=True, **eval(sys.argv[2]))
    print("returned", flush=True)

asyncio.run(main())
"""


@pytest.mark.parametrize("options", [{}, {"concurrency": 2, "order_by": "resource"}])
async def test_sigterm_finishes_running_handlers_and_pulls_no_more(
    bus: Bus, nats_url: str, monkeypatch: pytest.MonkeyPatch, options: dict[str, Any]
) -> None:
    monkeypatch.setenv("MEDIABUS_NATS_URL", nats_url)
    await publish(bus, "a.1", "a.2")
    program = await asyncio.create_subprocess_exec(
        sys.executable, "-c", PROGRAM, "0.5", repr(options), stdout=asyncio.subprocess.PIPE
    )
    assert program.stdout is not None
    assert await program.stdout.readline() == b"began a.1\n"
    program.send_signal(signal.SIGTERM)
    output, _ = await program.communicate()
    assert output == b"finished a.1\nreturned\n"
    assert program.returncode == 0
    info = await bus.js.consumer_info("EVENTS", "mine")
    assert info.ack_floor is not None
    assert info.ack_floor.stream_seq == 1
