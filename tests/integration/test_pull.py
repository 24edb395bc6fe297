"""A pull consumer's messages keep coming when the server or its store is lost."""

import asyncio
import contextlib
import gc
import shutil
import weakref
from collections.abc import AsyncIterator

import msgspec
import pytest
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.js.api import AckPolicy

from mediabus.consumers.daemon import durable
from mediabus.runtime.nats import pull as pulls
from mediabus.runtime.nats.bus import Bus
from mediabus.runtime.nats.pull import Pull, place_of, pulling
from mediabus.runtime.nats.streams import keep_streams
from mediabus.runtime.settings import NatsSettings
from mediabus.schemas.subjects import EVENTS_STREAM
from tests.support.eventually import eventually
from tests.support.servers import NatsServer
from tests.support.stream import event

BATCH = 10


class Reader:
    """Takes and acknowledges all there is, for as long as it is open."""

    def __init__(self) -> None:
        self.names: list[str] = []

    async def read(self, pull: Pull) -> None:
        while True:
            for message in await pull.messages(BATCH):
                self.names.append(message.subject.rpartition(".")[2])
                await message.ack()

    def has(self, *names: str) -> bool:
        return set(names) <= set(self.names)


@contextlib.asynccontextmanager
async def reading(bus: Bus) -> AsyncIterator[Reader]:
    reader = Reader()
    async with pulling(bus, stream=EVENTS_STREAM, consumer=durable("test"), batch=BATCH) as pull:
        task = asyncio.create_task(reader.read(pull))
        try:
            yield reader
        finally:
            task.cancel()
            await asyncio.wait([task])


async def say(bus: Bus, *names: str) -> None:
    for name in names:
        await bus.publish_envelope(event(name, resource=name))


async def test_all_messages_come_once_and_in_order(bus: Bus) -> None:
    names = [str(number) for number in range(5 * BATCH + 3)]
    await say(bus, *names[:20])
    async with reading(bus) as reader:
        await eventually(lambda: len(reader.names) == 20)
        await say(bus, *names[20:])
        await eventually(lambda: len(reader.names) >= len(names))
    assert reader.names == names


async def test_status_headers_of_a_message_are_not_server_statuses(bus: Bus) -> None:
    async with reading(bus) as reader:
        for status in ("100", "404", "409"):
            await bus.js.publish(f"events.a.b.c.{status}", headers={"Status": status})
        await eventually(lambda: reader.names == ["100", "404", "409"], within=2)


async def test_large_messages_are_fetched_few_at_a_time(
    bus: Bus, caplog: pytest.LogCaptureFixture
) -> None:
    large = bytes(bus.nc.max_payload // 2)
    for _ in range(2 * BATCH):
        await bus.js.publish("events.a.b.c.d", large)
    consumer = durable("test")
    async with pulling(bus, stream=EVENTS_STREAM, consumer=consumer, batch=BATCH) as pull:
        taken = len(await pull.messages(1))
        await bus.nc.flush()
        info = await bus.js.consumer_info(EVENTS_STREAM, "test")
        assert (info.num_ack_pending or 0) <= 8
        while taken < 2 * BATCH:
            for message in await pull.messages(BATCH):
                assert message.metadata.num_delivered == 1
                await message.ack()
                taken += 1
    assert "pull request ended" not in caplog.text


async def test_unacknowledged_messages_go_to_the_next_consumer(bus: Bus) -> None:
    await say(bus, "one", "two")
    consumer = durable("test")
    consumer.ack_wait = 0.5
    async with pulling(bus, stream=EVENTS_STREAM, consumer=consumer, batch=BATCH) as pull:
        taken = await pull.messages(1)
        assert [message.metadata.num_delivered for message in taken] == [1]
    async with pulling(bus, stream=EVENTS_STREAM, consumer=consumer, batch=BATCH) as pull:
        taken = []
        while len(taken) < 2:
            taken += await pull.messages(BATCH)
        assert {message.metadata.num_delivered for message in taken} == {2}


async def test_a_message_knows_its_place(bus: Bus) -> None:
    await say(bus, "one", "two")
    async with pulling(bus, stream=EVENTS_STREAM, consumer=durable("test"), batch=BATCH) as pull:
        messages = [*await pull.messages(1), *await pull.messages(1)]
    for message in messages:
        metadata = message.metadata
        assert place_of(message) == (metadata.sequence.stream, metadata.num_delivered)
        assert message.headers == {
            "Content-Type": "application/cloudevents+json",
            "Nats-Msg-Id": str(msgspec.json.decode(message.data)["id"]),
        }


def test_a_place_of_a_domain_is_found_behind_it() -> None:
    """ADR-15's second form, which a leaf node sends."""
    reply = "$JS.ACK.hub.ACCOUNT.EVENTS.persister.3.14.15.1763800000000000000.92.x7"
    message = Msg(Client(), reply=reply)
    assert place_of(message) == (message.metadata.sequence.stream, message.metadata.num_delivered)
    assert place_of(message) == (14, 3)


async def test_messages_without_acknowledgement_are_released_once_read(bus: Bus) -> None:
    """A reader of the whole stream would hold all of it, and call all of it in progress."""
    await say(bus, *(str(number) for number in range(3 * BATCH)))
    consumer = durable("test")
    consumer.ack_policy = AckPolicy.NONE
    async with pulling(bus, stream=EVENTS_STREAM, consumer=consumer, batch=BATCH) as pull:
        assert await read_and_still_held(pull, 3 * BATCH, settle=False) == 0


async def test_acknowledged_messages_are_released_out_of_order(bus: Bus) -> None:
    """One writer waits, for a lock say, and the other goes on for as long."""
    await say(bus, *(str(number) for number in range(3 * BATCH)))
    async with pulling(bus, stream=EVENTS_STREAM, consumer=durable("test"), batch=BATCH) as pull:
        [_] = await pull.messages(1)
        assert await read_and_still_held(pull, 3 * BATCH - 1, settle=True) == 0


async def read_and_still_held(pull: Pull, most: int, *, settle: bool) -> int:
    """Takes so many messages and answers how many of them are kept, the last ones left out."""
    seen: list[weakref.ref[Msg]] = []
    while len(seen) < most:
        for message in await pull.messages(min(BATCH, most - len(seen))):
            seen.append(weakref.ref(message))
            if settle:
                await message.ack()
    del message
    gc.collect()
    return sum(one() is not None for one in seen[:-BATCH])


async def test_a_pull_never_holds_more_than_its_limit(bus: Bus) -> None:
    await say(bus, *(str(number) for number in range(5 * BATCH)))
    async with pulling(bus, stream=EVENTS_STREAM, consumer=durable("test"), batch=BATCH) as pull:
        for _ in range(3):
            assert len(await pull.messages(1)) == 1
            await bus.nc.flush()
        info = await bus.js.consumer_info(EVENTS_STREAM, "test")
    assert (info.num_ack_pending or 0) <= 2 * BATCH


@pytest.mark.parametrize("how", ["stop", "kill"])
async def test_pulls_continue_after_an_outage_of_the_server(
    nats: NatsServer, bus: Bus, how: str
) -> None:
    async with reading(bus) as reader:
        await say(bus, "before")
        await eventually(lambda: reader.has("before"))
        getattr(nats, how)()
        await asyncio.to_thread(nats.start)
        await eventually(lambda: bus.is_connected)
        await say(bus, "after")
        await eventually(lambda: reader.has("after"), within=10)


async def test_nothing_is_pulled_or_acknowledged_during_an_outage(
    nats: NatsServer, bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would all be sent at once when NATS is back, and as many requests be served."""
    await say(bus, "one")
    async with pulling(bus, stream=EVENTS_STREAM, consumer=durable("test"), batch=BATCH) as pull:
        monkeypatch.setattr(pulls, "ACK_WAIT", 0.05)
        await pull.messages(1)
        nats.kill()
        await eventually(lambda: not bus.is_connected)
        monkeypatch.setattr(pulls, "HEARTBEAT", 0.02)
        asking = asyncio.create_task(pull.messages(1))
        await asyncio.wait([asking], timeout=1.5)
        asking.cancel()
        assert bus.nc.pending_data_size == 0


async def test_a_deleted_consumer_is_created_again(bus: Bus) -> None:
    async with reading(bus) as reader:
        await say(bus, "before")
        await eventually(lambda: reader.has("before"))
        await bus.js.delete_consumer(EVENTS_STREAM, "test")
        await say(bus, "after")
        await eventually(lambda: reader.has("after"))


async def test_a_server_that_lost_everything_gets_its_consumer_back(
    nats: NatsServer, bus: Bus
) -> None:
    async with reading(bus) as reader, looking_after_the_streams(bus):
        await say(bus, "before")
        await eventually(lambda: reader.has("before"))
        nats.kill()
        shutil.rmtree(nats.directory / "store")
        await asyncio.to_thread(nats.start)
        await eventually(lambda: bus.is_connected)
        await eventually(lambda: has_stream(bus))
        await say(bus, "after")
        await eventually(lambda: reader.has("after"))


@contextlib.asynccontextmanager
async def looking_after_the_streams(bus: Bus) -> AsyncIterator[None]:
    task = asyncio.create_task(keep_streams(bus, NatsSettings()))
    yield
    task.cancel()
    await asyncio.wait([task])


async def has_stream(bus: Bus) -> bool:
    return EVENTS_STREAM in [info.config.name for info in await bus.js.streams_info()]


async def test_an_expired_pull_request_is_repeated(
    bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pulls, "EXPIRES", 0.5)
    monkeypatch.setattr(pulls, "HEARTBEAT", 0.2)
    asked = await bus.nc.subscribe("$JS.API.CONSUMER.MSG.NEXT.EVENTS.test")
    async with reading(bus) as reader:
        for _ in range(3):
            await asked.next_msg(timeout=5)
        await say(bus, "late")
        await eventually(lambda: reader.has("late"))
