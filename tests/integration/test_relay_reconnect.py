"""Nothing newer is published over a connection before the relay has looked at what NATS forgot."""

import asyncio

import pytest

from service.outbox.relay import Relay
from service.runtime.bus import Bus, PublishFailed
from service.runtime.database import Pool
from tests.support.eventually import eventually
from tests.support.servers import NatsServer
from tests.support.stream import names, record


async def test_what_was_read_before_a_reconnect_is_not_published_after_it(
    nats: NatsServer, bus: Bus, pool: Pool
) -> None:
    relay = Relay(pool, bus, confirm_in_events=True)
    await relay.relay_batch()
    await record(pool, "one")
    async with pool.acquire() as connection, connection.transaction():
        await connection.execute("LOCK TABLE outbox IN ACCESS EXCLUSIVE MODE")
        relaying = asyncio.create_task(relay.relay_batch())
        await asyncio.wait([relaying], timeout=0.2)
        nats.kill()
        await eventually(lambda: not bus.is_connected)
        await asyncio.to_thread(nats.start)
        await eventually(lambda: bus.is_connected)
        await bus.nc.flush()
        assert not relaying.done()
    with pytest.raises(PublishFailed, match="away meanwhile"):
        await relaying
    assert await names(bus) == []
    assert await relay.relay_batch() == 1
    assert await names(bus) == ["one"]
