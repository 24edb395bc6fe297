import asyncio, os, signal
import pytest
from service.outbox.batch import Outgoing, publish_all
from service.runtime.bus import PublishFailed
from tests.support.eventually import eventually
from schemas.identity import uuid7
async def test_x(nats, bus):
    rows = [Outgoing(uuid7(), "events.a.b.c.-", b"x"*900_000) for _ in range(40)]
    os.kill(nats.pid, signal.SIGSTOP)
    task = asyncio.create_task(publish_all(bus, rows))
    await eventually(lambda: bus.nc.pending_data_size > 8_000_000, within=20)
    nats.kill()
    await asyncio.wait([task], timeout=20)
    print(repr(task.exception()))
    await asyncio.to_thread(nats.start)
