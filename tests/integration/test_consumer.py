"""A consumer of a user: each event once, again after a fault, and never in anybody's way."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

import pytest
from nats.js.api import AckPolicy, ConsumerConfig

from mediabus.consumers import daemon
from mediabus.consumers.consume import consume
from mediabus.consumers.daemon import Delivery, delivery_of, durable, run
from mediabus.consumers.dead_letters import DeadLetters
from mediabus.consumers.verdict import MAX_DELIVERIES, RetryLater
from mediabus.runtime.nats import pull
from mediabus.runtime.nats.bus import Bus
from mediabus.runtime.nats.refusals import ConsumerRefused
from mediabus.runtime.settings import NatsSettings
from mediabus.schemas.envelope import Envelope
from mediabus.schemas.events import JobExecuted, JobFailed
from mediabus.schemas.identity import Actor
from mediabus.schemas.operations.dead_letters import DeadLetter
from tests.support.eventually import eventually
from tests.support.servers import NatsServer
from tests.support.stream import is_handled

JOB = Actor("job", "nightly")

Handle = Callable[[Envelope], Awaitable[None]]


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pauses before another try that a test can wait for."""
    monkeypatch.setattr("mediabus.consumers.verdict.FIRST_DELAY", 0.01)
    monkeypatch.setattr("mediabus.consumers.verdict.MAX_DELAY", 0.02)


@contextlib.asynccontextmanager
async def consuming(
    bus: Bus, url: str, handle: Handle, *, subjects: str = "events.>", from_start: bool = True
) -> AsyncIterator[None]:
    """A consumer called ``mine``, from the moment that the server knows of it."""
    work = consume(
        "mine", handle, subjects=subjects, from_start=from_start, settings=NatsSettings(url=url)
    )
    task = asyncio.create_task(work)

    async def is_known() -> bool:
        return (await bus.js.stream_info("EVENTS")).state.consumer_count > 0

    try:
        await eventually(is_known)
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])


class Handled:
    """A handler that takes notes: the names of jobs, one for each time that one was handed over."""

    def __init__(self, fails: Callable[[str, int], Exception | None] | None = None) -> None:
        self.jobs: list[str] = []
        self.fails = fails or (lambda _job, _times: None)

    async def __call__(self, event: Envelope) -> None:
        job = event.fields()["job_name"]
        self.jobs.append(job)
        error = self.fails(job, self.jobs.count(job))
        if error:
            raise error


async def say(bus: Bus, *jobs: str) -> None:
    for job in jobs:
        await bus.publish(JobExecuted(job_name=job), actor=JOB)


async def settled(bus: Bus) -> None:
    """Waits until nothing is left to read, nor in doubt."""
    await eventually(lambda: is_handled(bus, "mine"), within=20)


async def test_each_event_is_handled_once_and_in_order(bus: Bus, nats_url: str) -> None:
    handled = Handled()
    await say(bus, "a", "b")
    async with consuming(bus, nats_url, handled):
        await say(bus, "c", "d")
        await settled(bus)
    assert handled.jobs == ["a", "b", "c", "d"]
    async with consuming(bus, nats_url, handled):
        await say(bus, "e")
        await settled(bus)
    assert handled.jobs == ["a", "b", "c", "d", "e"]


async def test_a_consumer_may_want_some_events_only_and_only_new_ones(
    bus: Bus, nats_url: str
) -> None:
    handled = Handled()
    await bus.publish(JobFailed(job_name="old"), actor=JOB)
    wanted = "events.*.*.failed.>"
    async with consuming(bus, nats_url, handled, subjects=wanted, from_start=False):
        await say(bus, "not wanted")
        await bus.publish(JobFailed(job_name="new"), actor=JOB)
        await settled(bus)
    assert handled.jobs == ["new"]


@pytest.mark.parametrize("first", [True, False])
async def test_a_consumer_resumes_even_if_from_start_changed(
    bus: Bus, nats_url: str, first: bool
) -> None:
    handled = Handled()
    for job, from_start in (("a", first), ("b", not first)):
        async with consuming(bus, nats_url, handled, from_start=from_start):
            await eventually(lambda: is_there(bus))
            await say(bus, job)
            await settled(bus)
    assert handled.jobs == ["a", "b"]


async def is_there(bus: Bus) -> bool:
    return any(info.name == "mine" for info in await bus.js.consumers_info("EVENTS"))


@pytest.mark.usefixtures("hasty")
async def test_a_failed_event_is_redelivered_and_delays_no_other(bus: Bus, nats_url: str) -> None:
    handled = Handled(lambda job, times: OSError("away") if job == "b" and times < 4 else None)
    async with consuming(bus, nats_url, handled):
        await say(bus, "a", "b", "c")
        await settled(bus)
    assert sorted(handled.jobs) == ["a", "b", "b", "b", "b", "c"]
    assert await DeadLetters(bus).count() == 0


@pytest.mark.usefixtures("hasty")
async def test_only_the_failing_event_is_dead_lettered_with_its_error(
    bus: Bus, nats_url: str
) -> None:
    handled = Handled(lambda job, times: OSError(f"away {times}") if job == "b" else None)
    async with consuming(bus, nats_url, handled):
        await say(bus, "a", "b", "c")
        await settled(bus)
        [letter] = await DeadLetters(bus).newest(10)
    assert (letter.consumer, letter.kind, letter.deliveries) == ("mine", "failed", MAX_DELIVERIES)
    assert letter.reason == f"OSError: away {MAX_DELIVERIES}, {MAX_DELIVERIES} times"
    assert handled.jobs.count("b") == MAX_DELIVERIES
    assert [handled.jobs.count(job) for job in "ac"] == [1, 1]


@pytest.mark.usefixtures("hasty")
async def test_retry_later_redelivers_without_limit(bus: Bus, nats_url: str) -> None:
    enough = MAX_DELIVERIES + 3
    handled = Handled(lambda _, times: RetryLater("disk full") if times < enough else None)
    async with consuming(bus, nats_url, handled):
        await say(bus, "a")
        await settled(bus)
    assert handled.jobs == ["a"] * enough
    assert await DeadLetters(bus).count() == 0


async def test_an_invalid_message_is_dead_lettered_unhandled(bus: Bus, nats_url: str) -> None:
    handled = Handled()
    await say(bus, "a")
    await bus.js.publish("events.system.job.executed.-", b'{"specversion": "1.0"}')
    await bus.js.publish("events.system.job.executed.-", b"\x00\xff")
    await say(bus, "b")
    async with consuming(bus, nats_url, handled):
        await settled(bus)
    letters: list[DeadLetter] = await DeadLetters(bus).all()
    assert handled.jobs == ["a", "b"]
    assert [letter.kind for letter in letters] == ["invalid", "invalid"]
    assert "Object missing required field `id`" in letters[0].reason


async def test_binary_events_of_other_programs_are_understood(bus: Bus, nats_url: str) -> None:
    handled = Handled()
    headers = {
        "ce-specversion": "1.0",
        "ce-id": "0198c1f3-0d4e-7f60-9a1b-2c3d4e5f6071",
        "ce-source": "other",
        "ce-type": "job.executed",
        "ce-time": "2026-11-22T10:00:00Z",
    }
    await bus.js.publish("events.x.y.z.-", b'{"job_name": "theirs"}', headers=headers)
    async with consuming(bus, nats_url, handled):
        await settled(bus)
    assert handled.jobs == ["theirs"]


async def test_a_slow_handler_is_not_handed_the_same_event_again(
    bus: Bus, nats_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(daemon, "ACK_WAIT", 0.8)
    monkeypatch.setattr(pull, "ACK_WAIT", 0.8)
    jobs = []

    async def slow(event: Envelope) -> None:
        jobs.append(event.fields()["job_name"])
        await asyncio.sleep(2.0)  # the work itself, more than twice what the server waits by itself

    async with consuming(bus, nats_url, slow):
        await say(bus, "a", "b", "c")  # these wait behind the first
        await settled(bus)
    assert jobs == ["a", "b", "c"]


async def test_consumers_of_one_name_share_the_work(bus: Bus, nats_url: str) -> None:
    one, other = Handled(), Handled()
    names = [f"job {number}" for number in range(200)]
    async with consuming(bus, nats_url, one), consuming(bus, nats_url, other):
        await say(bus, *names)
        await settled(bus)
    assert sorted(one.jobs + other.jobs) == sorted(names)
    assert one.jobs
    assert other.jobs


async def test_a_consumer_outlives_its_server(bus: Bus, nats: NatsServer, nats_url: str) -> None:
    handled = Handled()
    async with consuming(bus, nats_url, handled):
        await say(bus, "before")
        await eventually(lambda: handled.jobs)
        before = bus.nc.stats["reconnects"]
        nats.kill()
        nats.start()
        await eventually(lambda: bus.nc.stats["reconnects"] > before)
        await say(bus, "after")
        await eventually(lambda: "after" in handled.jobs, within=20)
    assert set(handled.jobs) == {"before", "after"}


@pytest.mark.usefixtures("hasty")
async def test_a_batch_that_fails_as_a_whole_is_tried_again_as_a_whole(bus: Bus) -> None:
    batches: list[list[str]] = []

    async def handle(batch: Sequence[Delivery]) -> list[Exception | None]:
        batches.append([delivery.envelope.fields()["job_name"] for delivery in batch])
        if len(batches) < 3:
            raise OSError("disk full")
        return [None] * len(batch)

    await say(bus, "a", "b")
    work = asyncio.create_task(run(bus, durable("mine"), handle, decode=delivery_of, batch=10))
    try:
        await eventually(lambda: sum(map(len, batches[2:])) >= 2)
        await settled(bus)
    finally:
        work.cancel()
        await asyncio.wait([work])
    assert batches[0] == ["a", "b"]
    assert await DeadLetters(bus).count() == 0


@pytest.mark.parametrize(
    "subjects", ["event.media.>", "events", "events..>", "events.>.a", "events. .>", "", "media.>"]
)
async def test_subjects_that_no_event_can_have_are_refused(nats_url: str, subjects: str) -> None:
    consuming = consume("mine", Handled(), subjects=subjects, settings=NatsSettings(url=nats_url))
    with pytest.raises(ConsumerRefused, match="matches no event"):
        await asyncio.wait_for(consuming, 5)


async def test_the_name_of_the_persister_is_refused(nats_url: str) -> None:
    consuming = consume("persister", Handled(), settings=NatsSettings(url=nats_url))
    with pytest.raises(ConsumerRefused, match="choose another name"):
        await asyncio.wait_for(consuming, 5)


@pytest.mark.parametrize(
    "theirs",
    [
        ConsumerConfig(durable_name="mine", ack_policy=AckPolicy.NONE),
        ConsumerConfig(durable_name="mine", deliver_subject="theirs"),
    ],
)
async def test_a_consumer_with_another_configuration_is_named(
    bus: Bus, nats_url: str, theirs: ConsumerConfig
) -> None:
    await bus.js.add_consumer("EVENTS", theirs)
    consuming = consume("mine", Handled(), settings=NatsSettings(url=nats_url))
    with pytest.raises(ConsumerRefused, match=r"'mine' of stream EVENTS: .*can not .*another name"):
        await asyncio.wait_for(consuming, 10)


async def test_a_limit_of_consumers_is_logged_once_and_waited_for(
    bus: Bus, nats_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    config = (await bus.js.stream_info("EVENTS")).config
    await bus.js.delete_stream("EVENTS")
    await bus.js.add_stream(config.evolve(max_consumers=1))
    await bus.js.add_consumer("EVENTS", ConsumerConfig(durable_name="theirs"))
    handled = Handled()
    task = asyncio.create_task(consume("mine", handled, settings=NatsSettings(url=nats_url)))
    try:
        await eventually(lambda: "consumer not created, will retry" in caplog.text)
        [said] = [one for one in caplog.records if one.name == "mediabus.pull"]
        assert "maximum consumers limit reached" in said.__dict__["reason"]
        await bus.js.delete_consumer("EVENTS", "theirs")

        async def is_known() -> bool:
            return (await bus.js.stream_info("EVENTS")).state.consumer_count > 0

        await eventually(is_known)
        await bus.publish(JobExecuted(job_name="heard"), actor=JOB)
        await eventually(lambda: handled.jobs == ["heard"])
        assert len([one for one in caplog.records if one.name == "mediabus.pull"]) == 1
    finally:
        task.cancel()
        await asyncio.wait([task])
