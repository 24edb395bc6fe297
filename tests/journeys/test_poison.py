"""Whatever is published by whomever: what is an event is stored, what is none is buried with its
reason, and no process ends, hangs or goes deaf."""

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest

from consumers.dead_letters import DeadLetters
from schemas.subjects import EVENTS_STREAM
from service.runtime.bus import Bus
from service.runtime.database import Pool
from service.runtime.settings import Settings
from tests.support.eventually import eventually
from tests.support.poison import Message, poison
from tests.support.processes import processes
from tests.support.servers import HOST, NatsServer

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

MESSAGES = 100_000
A_BATCH = 1000
SEED = 20261122
HEARS_WITHIN = 15.0


@contextlib.asynccontextmanager
async def stranger(nats: NatsServer) -> AsyncIterator[asyncio.StreamWriter]:
    """A connection that says what no client would say."""
    reader, writer = await asyncio.open_connection(HOST, nats.port)
    writer.write(b'CONNECT {"verbose":false,"headers":true}\r\n')
    listening = asyncio.create_task(reader.read(-1))
    try:
        yield writer
    finally:
        writer.close()
        await writer.wait_closed()
        listening.cancel()
        await asyncio.wait([listening])


async def say(writer: asyncio.StreamWriter, messages: Sequence[Message]) -> None:
    """Publishes them in atomic batches, so that the stream has all of them, in their order."""
    for start in range(0, len(messages), A_BATCH):
        batch = messages[start : start + A_BATCH]
        for number, message in enumerate(batch, start=1):
            lines = b"Nats-Batch-Id: %d\r\nNats-Batch-Sequence: %d\r\n" % (start, number)
            if number == len(batch):
                lines += b"Nats-Batch-Commit: 1\r\n"
            headers = b"NATS/1.0\r\n%b%b\r\n" % (lines, message.headers)
            size = len(headers)
            writer.write(b"HPUB %b %d %d\r\n" % (message.subject, size, size + len(message.body)))
            writer.write(headers + message.body + b"\r\n")
        await writer.drain()


async def test_of_a_hundred_thousand_poisoned_messages_each_meets_its_fate(
    settings: Settings, nats: NatsServer, bus: Bus, pool: Pool, tmp_path: Path
) -> None:
    messages = poison(random.Random(SEED), MESSAGES)
    with processes(settings, tmp_path, "persist", "persist") as persisters:
        async with stranger(nats) as writer:
            await say(writer, messages)
            await eventually(lambda: holds(bus, MESSAGES), within=60)
            await eventually(lambda: is_read(bus), within=120, every=0.5)
        assert all(process.is_ready for process in persisters)
    stored = {row["stream_seq"] for row in await pool.fetch("SELECT stream_seq FROM events")}
    buried = {one.stream_seq: one.reason for one in await DeadLetters(bus).all()}
    assert stored & buried.keys() == set()
    assert stored | buried.keys() == set(range(1, MESSAGES + 1))
    assert all(buried.values())
    for number, message in enumerate(messages, start=1):
        if message.fate != "either":
            assert (message.fate == "stored") == (number in stored), message


async def holds(bus: Bus, messages: int) -> bool:
    return (await bus.js.stream_info(EVENTS_STREAM)).state.messages >= messages


async def is_read(bus: Bus) -> bool:
    info = await bus.js.consumer_info(EVENTS_STREAM, "persister")
    return not info.num_pending and not info.num_ack_pending
