"""The relay keeps the order of events when NATS reconnects, loses data or rejects an event."""

import asyncio
import os
import shutil
import signal

import pytest

from mediabus.runtime.nats.bus import Bus, PublishFailed
from mediabus.runtime.postgres.database import Pool
from mediabus.schemas import codec
from mediabus.schemas.subjects import EVENTS_STREAM, RECORDED_SUBJECT, subject_of
from mediabus.service.outbox import relay as relay_module
from mediabus.service.outbox.publish import Batch, Outgoing, publish_all
from mediabus.service.outbox.relay import Relay
from tests.support.eventually import eventually
from tests.support.servers import NatsServer
from tests.support.stream import event, names, record


async def test_rows_read_before_a_reconnect_are_read_again_after_it(
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
    with pytest.raises(PublishFailed, match="NATS reconnected"):
        await passing
    assert await names(bus) == []
    assert await relay.relay_batch() == 1
    assert await names(bus) == ["one"]


async def test_a_rejected_event_blocks_its_own_resource_only(bus: Bus) -> None:
    envelopes = [event("x" * 3000, "1"), event("other", "2"), event("next", "1")]
    events = [
        Outgoing(envelope.id, subject_of(envelope), codec.encode(envelope))
        for envelope in envelopes
    ]
    await limit(bus, 2000)
    with pytest.raises(PublishFailed, match="size"):
        await publish_all(bus, events)
    assert await names(bus) == ["other"]
    await limit(bus, -1)
    await publish_all(bus, events)
    assert await names(bus) == ["other", "x" * 3000, "next"]


async def limit(bus: Bus, size: int) -> None:
    config = (await bus.js.stream_info(EVENTS_STREAM)).config
    await bus.js.update_stream(config, max_msg_size=size)


async def test_an_event_recorded_after_the_read_is_relayed_at_once(
    bus: Bus, pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit = Batch.commit

    async def slow_commit(batch: Batch) -> None:
        monkeypatch.setattr(Batch, "commit", commit)
        await asyncio.sleep(1)  # the relay reads the next batch meanwhile, which is empty
        await record(pool, "late")
        await bus.nc.publish(RECORDED_SUBJECT)
        await bus.nc.flush()
        await commit(batch)

    monkeypatch.setattr(relay_module, "POLL_EVERY", 60.0)
    monkeypatch.setattr(Batch, "commit", slow_commit)
    await record(pool, *["early"] * 1000)
    running = asyncio.create_task(Relay(pool, bus, confirm_in_events=True).run())
    try:
        await eventually(lambda: has(bus, 1001), within=20)
    finally:
        running.cancel()
        await asyncio.wait([running])


async def has(bus: Bus, events: int) -> bool:
    return (await bus.js.stream_info(EVENTS_STREAM)).state.messages == events


async def test_unsent_events_of_a_lost_connection_are_dropped(
    nats: NatsServer, bus: Bus, pool: Pool
) -> None:
    """The server may lack the events before them, and the relay would not notice."""
    nats.stop()
    shutil.copytree(nats.directory / "store", nats.directory / "an older copy")
    await asyncio.to_thread(nats.start)
    await eventually(lambda: bus.is_connected)
    relay = Relay(pool, bus, confirm_in_events=True)
    await record(pool, "one")
    await relay.relay_batch()
    os.kill(nats.pid, signal.SIGSTOP)
    for _ in range(12):  # fills the buffers of the socket
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
