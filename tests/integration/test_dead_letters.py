"""Dead letters: what no consumer could use is kept as it came, and can be tried again."""

import asyncio
import contextlib
import functools
from collections.abc import AsyncIterator, Awaitable, Callable

import msgspec
import pytest

from consumers.daemon import consume
from consumers.dead_letters import (
    DeadLetter,
    DeadLetters,
    NoSuchLetter,
    TooLarge,
    Wanted,
    tally,
)
from consumers.verdict import Rejected
from schemas import codec, letter
from schemas.envelope import Envelope
from schemas.events import JobExecuted
from schemas.identity import Actor, uuid7
from service.outbox.batch import Outgoing, publish_all
from service.runtime.bus import Bus, PublishFailed
from service.runtime.settings import NatsSettings
from service.runtime.streams import ensure_streams
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


async def test_a_place_that_is_given_again_in_a_stream_made_anew_is_another_letter(
    bus: Bus, nats_url: str
) -> None:
    """The server that took the first letter a moment ago must not take the second one for it."""
    await bus.js.publish("events.a.b.c.-", b"one")
    async with consuming(nats_url, Picky()):
        await letters(bus, 1)
    await bus.js.delete_stream("EVENTS")
    await ensure_streams(bus, bus.settings)
    await bus.js.publish("events.a.b.c.-", b"another")
    async with consuming(nats_url, Picky()):
        assert [found.stream_seq for found in await letters(bus, 2)] == [1, 1]


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
            stream="EVENTS",
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


@pytest.mark.parametrize("first", [None, "events.d.e.f.-", "events.a.b.c.-"])
async def test_a_body_that_left_the_stream_is_not_taken_for_another_message(
    bus: Bus, nats_url: str, first: str | None
) -> None:
    """The stream was made anew, and counts from one again."""
    body = msgspec.json.encode("x" * (bus.nc.max_payload - 50))
    await bus.js.publish("events.a.b.c.-", body)
    async with consuming(nats_url, Picky()):
        [found] = await letters(bus, 1)
    await bus.js.delete_stream("EVENTS")
    if first:
        await ensure_streams(bus, bus.settings)
        await bus.js.publish(first, b"another", headers={"Nats-Msg-Id": "another"})
    with pytest.raises(NoSuchLetter, match="nothing is left of it but this letter"):
        await DeadLetters(bus).retry(found.number)
    assert await letters(bus, 1) == [found]


async def test_a_message_that_no_retry_fits_stays_and_the_connection_too(
    bus: Bus, nats_url: str
) -> None:
    await bus.js.publish("events.a.b.c.-", b"x" * (bus.nc.max_payload - 20))
    async with consuming(nats_url, Picky()):
        [found] = await letters(bus, 1)
    reconnects = bus.nc.stats["reconnects"]
    with pytest.raises(TooLarge, match=f"dead letter {found.number} stays"):
        await DeadLetters(bus).retry(found.number)
    assert await letters(bus, 1) == [found]
    assert bus.nc.stats["reconnects"] == reconnects


async def test_what_is_retried_again_and_again_keeps_its_first_id(bus: Bus, nats_url: str) -> None:
    async with consuming(nats_url, Picky()):
        published = await bus.publish(JobExecuted(job_name="scan"), actor=JOB)
        for number in (1, 2, 3):
            [found] = await letters(bus, 1)
            assert (found.number, found.message_id) == (number, str(published.id))
            _, body = await DeadLetters(bus).get(number)
            assert codec.decode(body, found.headers) == published
            await DeadLetters(bus).retry(number)
            await eventually(functools.partial(has_number, bus, number + 1))


async def has_number(bus: Bus, number: int) -> bool:
    return [one.number for one in await DeadLetters(bus).all()] == [number]


async def test_letters_are_chosen_and_counted_by_consumer_kind_type_and_reason(bus: Bus) -> None:
    for consumer, kind, subject, reason in (
        ("mine", "failed", "events.downloads.download.paused.1", "ValueError: no"),
        ("mine", "failed", "events.downloads.download.paused.2", "ValueError: never"),
        ("mine", "failed", "events.downloads.download.failed.1", "KeyError"),
        ("mine", "invalid", "events.downloads.download.paused.3", "not JSON"),
        ("yours", "failed", "events.downloads.download.paused.1", "ValueError: no"),
    ):
        headers = letter.addressed(
            None,
            consumer=consumer,
            kind=kind,
            reason=reason,
            subject=subject,
            stream="EVENTS",
            stream_seq=int(subject[-1]),
            deliveries=10,
        )
        del headers["Nats-Msg-Id"]
        await bus.js.publish(f"dead_letters.{consumer}.{kind}", headers=headers)
    await bus.js.publish("dead_letters.of.strangers", headers={letter.DELIVERIES: "many"})
    dead = DeadLetters(bus)

    async def numbers(**wanted: str) -> list[int]:
        return [one.number for one in await dead.all(Wanted(**wanted))]

    assert await numbers() == [1, 2, 3, 4, 5, 6]
    assert await numbers(consumer="mine") == [1, 2, 3, 4]
    assert await numbers(kind="invalid") == [4]
    assert await numbers(type="download.paused", consumer="mine", kind="failed") == [1, 2]
    assert await numbers(type="download.*") == [1, 2, 3, 4, 5]
    assert await numbers(reason="valueerror") == [1, 2, 5]
    assert [one.number for one in await dead.newest(2, Wanted(reason="value"))] == [5, 2]
    counted = [(one.consumer, one.kind, one.type, one.count) for one in tally(await dead.all())]
    assert counted[0] == ("mine", "failed", "download.paused", 2)
    assert {one[3] for one in counted[1:]} == {1}
    assert tally(await dead.all())[0].reason == "ValueError: never"


async def test_no_letters_are_an_empty_list(bus: Bus) -> None:
    assert await DeadLetters(bus).newest(10) == []
