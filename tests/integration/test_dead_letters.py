"""Dead letters: what no consumer could use is kept as it came, and can be tried again."""

import asyncio
import contextlib
import functools
from collections.abc import AsyncIterator, Awaitable, Callable

import msgspec
import pytest

from mediabus.consumers.consume import consume
from mediabus.consumers.dead_letters import (
    DeadLetters,
    NoSuchDeadLetter,
    TooLarge,
    tally,
)
from mediabus.consumers.verdict import Rejected
from mediabus.runtime.nats.bus import Bus, PublishFailed
from mediabus.runtime.nats.streams import ensure_streams
from mediabus.runtime.settings import NatsSettings
from mediabus.schemas import codec
from mediabus.schemas import dead_letter_headers as letter
from mediabus.schemas.envelope import Envelope
from mediabus.schemas.events import JobExecuted
from mediabus.schemas.identity import Actor, uuid7
from mediabus.schemas.operations.dead_letters import DeadLetter, DeadLetterFilter
from mediabus.service.outbox.publish import Outgoing, publish_all
from tests.support.eventually import eventually
from tests.support.stream import messages

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


async def test_a_dead_letter_has_the_original_message_and_the_reason(
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


async def test_an_event_of_an_atomic_batch_is_dead_lettered(bus: Bus, nats_url: str) -> None:
    """The server keeps a batch's headers with each message, and would refuse them elsewhere."""
    await publish_all(bus, [Outgoing(uuid7(), "events.a.b.c.-", b"{}") for _ in range(3)])
    async with consuming(nats_url, Picky()):
        assert len(await letters(bus, 3)) == 3


async def test_a_reused_sequence_in_a_new_stream_is_another_dead_letter(
    bus: Bus, nats_url: str
) -> None:
    """The server that took the first letter a moment ago must not take the second one for it."""
    await bus.js.publish("events.a.b.c.-", b"one")
    async with consuming(nats_url, Picky()):
        await letters(bus, 1)
    await bus.js.delete_stream("EVENTS")
    await ensure_streams(bus, NatsSettings())
    await bus.js.publish("events.a.b.c.-", b"another")
    async with consuming(nats_url, Picky()):
        assert [found.stream_seq for found in await letters(bus, 2)] == [1, 1]


async def test_a_retried_event_passes_the_duplicate_window(bus: Bus, nats_url: str) -> None:
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
    """As where the connection ended before the dead letter was deleted."""
    async with consuming(nats_url, Picky()):
        await bus.publish(JobExecuted(job_name="scan"), actor=JOB)
        [found] = await letters(bus, 1)
    dead = DeadLetters(bus)
    headers = {**found.headers, "Nats-Msg-Id": await dead._retry_id(found)}
    body = (await dead.get(found.number))[1]
    await bus.js.publish(found.subject, body, headers=headers)
    await dead.retry(found.number)
    assert await dead.count() == 0
    assert len(await messages(bus)) == 2


@pytest.mark.parametrize("taken", ["that of 0.1.0", "that of this release"])
async def test_a_retry_is_stored_even_if_its_message_id_is_used(
    bus: Bus, nats_url: str, taken: str
) -> None:
    """JetStream reports a duplicate, which does not prove success."""
    async with consuming(nats_url, Picky()):
        sent = await bus.publish(JobExecuted(job_name="scan"), actor=JOB)
        [found] = await letters(bus, 1)
    dead = DeadLetters(bus)
    old = f"{found.message_id}.retry.{found.number}"
    message_id = old if taken == "that of 0.1.0" else await dead._retry_id(found)
    await bus.js.publish("events.a.b.c.-", b"{}", headers={"Nats-Msg-Id": message_id})
    await dead.retry(found.number)
    assert await dead.count() == 0
    *_, last = await messages(bus)
    assert codec.decode(last.data or b"").id == sent.id
    assert letter.first_id((last.headers or {})["Nats-Msg-Id"]) == str(sent.id)


async def test_the_message_id_of_a_retry_cannot_be_guessed(bus: Bus, nats_url: str) -> None:
    async with consuming(nats_url, Picky()):
        for _ in range(2):
            await bus.js.publish("events.a.b.c.-", b"no event")
        both = await letters(bus, 2)
    ids = [(await DeadLetters(bus)._retry_id(one)).rpartition(".")[2] for one in both]
    assert len({*ids}) == 2
    assert all(len(one) == 32 for one in ids)


async def test_a_dead_letter_is_kept_even_if_its_message_id_is_used(
    bus: Bus, nats_url: str
) -> None:
    await bus.js.publish("events.a.b.c.-", b"no event")
    [raw] = await messages(bus)
    assert raw.time
    for digits in ("microseconds", "auto"):
        guess = f"mine.EVENTS.1.{raw.time.isoformat(timespec=digits)}"
        await bus.js.publish("dead_letters.mine.x", b"", headers={"Nats-Msg-Id": guess})
    taken = await DeadLetters(bus).count()
    async with consuming(nats_url, Picky()):
        await letters(bus, taken + 1)
        found = (await DeadLetters(bus).newest(1))[0]
    assert (found.consumer, found.stream_seq) == ("mine", 1)
    assert (await DeadLetters(bus).get(found.number))[1] == b"no event"


async def test_a_failed_retry_keeps_the_dead_letter(bus: Bus, nats_url: str) -> None:
    async with consuming(nats_url, Picky()):
        await bus.publish(JobExecuted(job_name="scan"), actor=JOB)
        [found] = await letters(bus, 1)
    await bus.js.delete_stream("EVENTS")
    with pytest.raises(PublishFailed, match=f"cannot retry dead letter {found.number}"):
        await DeadLetters(bus).retry(found.number)
    assert await letters(bus, 1) == [found]


async def test_newest_skips_discarded_dead_letters(
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
    with pytest.raises(NoSuchDeadLetter, match="dead letter 6 does not exist: list them"):
        await dead.discard(6)
    with pytest.raises(NoSuchDeadLetter):
        await dead.get(6)


async def test_a_dead_letter_of_a_large_message_refers_to_the_stream(
    bus: Bus, nats_url: str
) -> None:
    body = msgspec.json.encode("x" * (bus.nc.max_payload - 50))
    await bus.js.publish("events.a.b.c.-", body)
    async with consuming(nats_url, Picky()):
        [found] = await letters(bus, 1)
    _, kept = await DeadLetters(bus).get(found.number)
    assert kept == body


@pytest.mark.parametrize("first", [None, "events.d.e.f.-", "events.a.b.c.-"])
async def test_a_dead_letter_whose_body_left_the_stream_is_not_retried(
    bus: Bus, nats_url: str, first: str | None
) -> None:
    """The stream was created again and reuses its sequence numbers."""
    body = msgspec.json.encode("x" * (bus.nc.max_payload - 50))
    await bus.js.publish("events.a.b.c.-", body)
    async with consuming(nats_url, Picky()):
        [found] = await letters(bus, 1)
    await bus.js.delete_stream("EVENTS")
    if first:
        await ensure_streams(bus, NatsSettings())
        await bus.js.publish(first, b"another", headers={"Nats-Msg-Id": "another"})
    with pytest.raises(NoSuchDeadLetter, match="dead letter 1 has no body"):
        await DeadLetters(bus).retry(found.number)
    assert await letters(bus, 1) == [found]


async def test_a_message_too_large_to_retry_keeps_its_dead_letter(bus: Bus, nats_url: str) -> None:
    await bus.js.publish("events.a.b.c.-", b"x" * (bus.nc.max_payload - 20))
    async with consuming(nats_url, Picky()):
        [found] = await letters(bus, 1)
    reconnects = bus.nc.stats["reconnects"]
    with pytest.raises(TooLarge, match=f"cannot retry dead letter {found.number}"):
        await DeadLetters(bus).retry(found.number)
    assert await letters(bus, 1) == [found]
    assert bus.nc.stats["reconnects"] == reconnects


async def test_repeated_retries_keep_the_first_message_id(bus: Bus, nats_url: str) -> None:
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


async def test_dead_letters_are_filtered_and_counted(
    bus: Bus,
) -> None:
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
        return [one.number for one in await dead.all(DeadLetterFilter(**wanted))]

    assert await numbers() == [1, 2, 3, 4, 5, 6]
    assert await numbers(consumer="mine") == [1, 2, 3, 4]
    assert await numbers(kind="invalid") == [4]
    assert await numbers(type="download.paused", consumer="mine", kind="failed") == [1, 2]
    assert await numbers(type="download.*") == [1, 2, 3, 4, 5]
    assert await numbers(reason="valueerror") == [1, 2, 5]
    assert [one.number for one in await dead.newest(2, DeadLetterFilter(reason="value"))] == [5, 2]
    counted = [(one.consumer, one.kind, one.type, one.count) for one in tally(await dead.all())]
    assert counted[0] == ("mine", "failed", "download.paused", 2)
    assert {one[3] for one in counted[1:]} == {1}
    assert tally(await dead.all())[0].reason == "ValueError: never"


async def test_an_empty_stream_lists_no_dead_letters(bus: Bus) -> None:
    assert await DeadLetters(bus).newest(10) == []
