"""What the relay publishes keeps its order, whatever NATS forgets or refuses between."""

import asyncio
import os
import shutil
import signal

import pytest

from schemas import codec
from schemas.subjects import EVENTS_STREAM, subject_of
from service.outbox import relay as relaying
from service.outbox.batch import Batch, Outgoing, publish_all
from service.outbox.outbox import RECORDED_SUBJECT
from service.outbox.relay import Relay
from service.runtime.bus import Bus, PublishFailed
from service.runtime.database import Pool
from tests.support.eventually import eventually
from tests.support.servers import NatsServer
from tests.support.stream import event, names, record


async def test_what_was_read_before_a_reconnect_is_not_published_after_it(
    nats: NatsServer, bus: Bus, pool: Pool
) -> None:
    relay = Relay(pool, bus, confirm_in_events=True)
    await relay.relay_batch()
    await record(pool, "one")
    async with pool.acquire() as connection, connection.transaction():
        await connection.execute("LOCK TABLE outbox IN ACCESS EXCLUSIVE MODE")
        passing = asyncio.create_task(relay.relay_batch())
        await asyncio.wait([passing], timeout=0.2)
        nats.kill()
        await eventually(lambda: not bus.is_connected)
        await asyncio.to_thread(nats.start)
        await eventually(lambda: bus.is_connected)
        await bus.nc.flush()
        assert not passing.done()
    with pytest.raises(PublishFailed, match="away meanwhile"):
        await passing
    assert await names(bus) == []
    assert await relay.relay_batch() == 1
    assert await names(bus) == ["one"]


async def test_where_one_event_is_refused_its_resource_waits_and_others_do_not(bus: Bus) -> None:
    made = [event("x" * 3000, "1"), event("other", "2"), event("next", "1")]
    said = [Outgoing(one.id, subject_of(one), codec.encode(one)) for one in made]
    await limit(bus, 2000)
    with pytest.raises(PublishFailed, match="size"):
        await publish_all(bus, said)
    assert await names(bus) == ["other"]
    await limit(bus, -1)
    await publish_all(bus, said)
    assert await names(bus) == ["other", "x" * 3000, "next"]


async def limit(bus: Bus, size: int) -> None:
    config = (await bus.js.stream_info(EVENTS_STREAM)).config
    await bus.js.update_stream(config, max_msg_size=size)


async def test_what_comes_after_the_next_batch_was_read_is_not_left_to_the_poll(
    bus: Bus, pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit = Batch.commit

    async def slowly(batch: Batch) -> None:
        monkeypatch.setattr(Batch, "commit", commit)
        await asyncio.sleep(1)  # the next batch is read, and there is none
        await record(pool, "late")
        await bus.nc.publish(RECORDED_SUBJECT)
        await bus.nc.flush()
        await commit(batch)

    monkeypatch.setattr(relaying, "POLL_EVERY", 60.0)
    monkeypatch.setattr(Batch, "commit", slowly)
    await record(pool, *["early"] * 1000)
    running = asyncio.create_task(Relay(pool, bus, confirm_in_events=True).run())
    try:
        await eventually(lambda: has(bus, 1001), within=20)
    finally:
        running.cancel()
        await asyncio.wait([running])


async def has(bus: Bus, events: int) -> bool:
    return (await bus.js.stream_info(EVENTS_STREAM)).state.messages == events


async def test_what_a_lost_connection_did_not_send_any_more_is_not_sent_by_the_next_one(
    nats: NatsServer, bus: Bus, pool: Pool
) -> None:
    """The server may have forgotten what came before it, which the relay then does not notice."""
    nats.stop()
    shutil.copytree(nats.directory / "store", nats.directory / "an older copy")
    await asyncio.to_thread(nats.start)
    await eventually(lambda: bus.is_connected)
    relay = Relay(pool, bus, confirm_in_events=True)
    await record(pool, "one")
    await relay.relay_batch()
    os.kill(nats.pid, signal.SIGSTOP)
    for _ in range(12):  # what the network holds is full then
        await bus.nc.publish("to.nobody", b"x" * 900_000)
    await asyncio.sleep(0.2)
    await record(pool, "two")
    passing = asyncio.create_task(relay.relay_batch())
    await asyncio.wait([passing], timeout=0.5)
    nats.kill()
    shutil.rmtree(nats.directory / "store")
    shutil.copytree(nats.directory / "an older copy", nats.directory / "store")
    await asyncio.to_thread(nats.start)
    await eventually(lambda: bus.is_connected)
    await asyncio.wait([passing])
    if passing.exception() is not None:
        await relay.relay_batch()
    await relay.relay_batch()
    assert await names(bus) == ["one", "two"]
