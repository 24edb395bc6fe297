"""Dead letters: what no consumer could use is kept as it came, and can be tried again."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable

import msgspec
import pytest

from consumers.daemon import consume
from consumers.dead_letters import DeadLetter, DeadLetters, NoSuchLetter
from consumers.verdict import Rejected
from schemas import letter
from schemas.envelope import Envelope
from schemas.events import JobExecuted
from schemas.identity import Actor, uuid7
from service.outbox.batch import Outgoing, publish_all
from service.runtime.bus import Bus, PublishFailed
from service.runtime.settings import NatsSettings
from tests.support.eventually import eventually

JOB = Actor("job", "nightly")

Handle = Callable[[Envelope], Awaitable[None]]


@contextlib.asynccontextmanager
async def consuming(url: str, handle: Handle) -> AsyncIterator[None]:
    """A consumer called ``mine`` at work."""
    settings = NatsSettings(url=url)
    task = asyncio.create_task(consume("mine", handle, from_start=True, settings=settings))
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])


class Picky:
    """Refuses every event while it is in the mood, and remembers those that it takes."""

    def __init__(self) -> None:
        self.refuses = True
        self.took: list[Envelope] = []

    async def __call__(self, event: Envelope) -> None:
        if self.refuses:
            raise Rejected("not in the mood")
        self.took.append(event)


async def letters(bus: Bus, count: int) -> list[DeadLetter]:
    async def there() -> list[DeadLetter]:
        found = await DeadLetters(bus).newest(100)
        return found if len(found) == count else []

    return await eventually(there)


async def test_a_letter_shows_the_message_as_it_came_and_why_it_is_dead(
    bus: Bus, nats_url: str
) -> None:
    async with consuming(nats_url, Picky()):
        headers = {"Nats-Msg-Id": "abc", "X-Mine": "kept"}
        await bus.js.publish("events.a.b.c.-", b"not an event", headers=headers)
        [found] = await letters(bus, 1)
    assert (found.consumer, found.kind, found.subject) == ("mine", "invalid", "events.a.b.c.-")
    assert (found.deliveries, found.stream_seq, found.message_id) == (1, 1, "abc")
    assert found.headers == {"X-Mine": "kept"}
    assert "JSON is malformed" in found.reason
    assert await DeadLetters(bus).get(found.number) == (found, b"not an event")


async def test_an_event_of_an_atomic_batch_can_be_buried(bus: Bus, nats_url: str) -> None:
    """The server keeps a batch's headers with each message, and would refuse them elsewhere."""
    await publish_all(bus, [Outgoing(uuid7(), "events.a.b.c.-", b"{}") for _ in range(3)])
    async with consuming(nats_url, Picky()):
        assert len(await letters(bus, 3)) == 3


async def test_a_retried_event_arrives_although_jetstream_saw_its_id_a_moment_ago(
    bus: Bus, nats_url: str
) -> None:
    picky = Picky()
    async with consuming(nats_url, picky):
        published = await bus.publish(JobExecuted(job_name="scan"), actor=JOB)
        [found] = await letters(bus, 1)
        assert (found.kind, found.reason) == ("rejected", "not in the mood")
        picky.refuses = False
        await DeadLetters(bus).retry(found.number)
        await eventually(lambda: picky.took)
    assert picky.took == [published]
    assert await DeadLetters(bus).count() == 0


async def test_a_retry_that_is_repeated_is_stored_once(bus: Bus, nats_url: str) -> None:
    async with consuming(nats_url, Picky()):
        await bus.publish(JobExecuted(job_name="scan"), actor=JOB)
        [found] = await letters(bus, 1)
    dead = DeadLetters(bus)
    await dead.retry(found.number)
    headers = {**found.headers, "Nats-Msg-Id": f"{found.message_id}.retry.{found.number}"}
    again = await bus.js.publish(found.subject, b"{}", headers=headers)
    assert again.duplicate


async def test_a_letter_stays_while_it_cannot_be_retried(bus: Bus, nats_url: str) -> None:
    async with consuming(nats_url, Picky()):
        await bus.publish(JobExecuted(job_name="scan"), actor=JOB)
        [found] = await letters(bus, 1)
    await bus.js.delete_stream("EVENTS")
    with pytest.raises(PublishFailed, match=f"dead letter {found.number} stays"):
        await DeadLetters(bus).retry(found.number)
    assert await letters(bus, 1) == [found]


async def test_discarded_letters_are_gone_and_the_newest_are_found_behind_the_gap(
    bus: Bus,
) -> None:
    for number in range(40):
        headers = letter.addressed(
            None,
            consumer="mine",
            kind="failed",
            reason=f"reason {number}",
            subject="events.a.b.c.-",
            stream_seq=number,
            deliveries=10,
        )
        await bus.js.publish("dead_letters.mine.failed", headers=headers)
    dead = DeadLetters(bus)
    for number in range(6, 41):
        await dead.discard(number)
    assert [one.number for one in await dead.newest(3)] == [5, 4, 3]
    assert [one.number for one in await dead.all()] == [1, 2, 3, 4, 5]
    with pytest.raises(NoSuchLetter, match="no dead letter 6: `mediabus dead list` has them"):
        await dead.discard(6)
    with pytest.raises(NoSuchLetter):
        await dead.get(6)


async def test_a_message_too_large_for_its_headers_is_buried_with_its_body_left_in_the_stream(
    bus: Bus, nats_url: str
) -> None:
    body = msgspec.json.encode("x" * (bus.nc.max_payload - 50))
    await bus.js.publish("events.a.b.c.-", body)
    async with consuming(nats_url, Picky()):
        [found] = await letters(bus, 1)
    _, kept = await DeadLetters(bus).get(found.number)
    assert kept == body


async def test_no_letters_are_an_empty_list(bus: Bus) -> None:
    assert await DeadLetters(bus).newest(10) == []
