"""Messages of any content, published by anyone.

Events are stored. Everything else is dead-lettered with its reason, and no process ends or hangs.
"""

import asyncio
import base64
import contextlib
import random
import re
import subprocess
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest

from mediabus.consumers.dead_letters import DeadLetters
from mediabus.runtime.nats.bus import Bus
from mediabus.runtime.postgres.database import Pool
from mediabus.runtime.settings import Settings
from mediabus.schemas.identity import uuid7
from mediabus.schemas.operations.registry import OPERATIONS
from mediabus.schemas.subjects import EVENTS_STREAM
from tests.support import daemons, torrents
from tests.support.commands import ROOT
from tests.support.eventually import eventually
from tests.support.library import Library, with_clients
from tests.support.poison import DATES, HARMFUL, HARMLESS, TEXTS, Message, poison
from tests.support.processes import processes
from tests.support.servers import HOST, NatsServer
from tests.support.stream import is_handled

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

MESSAGES = 100_000
A_BATCH = 1000
SEED = 20261122
HEARS_WITHIN = 15.0


@pytest.fixture
def library(bus: Bus, pool: Pool) -> Library:
    return Library(bus.nc, pool)


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


@pytest.mark.timeout(480)
async def test_100_000_poisoned_messages_are_stored_or_dead_lettered(
    settings: Settings, nats: NatsServer, bus: Bus, pool: Pool, tmp_path: Path
) -> None:
    messages = poison(random.Random(SEED), MESSAGES)
    with processes(settings, tmp_path, "persist", "persist") as persisters:
        async with stranger(nats) as writer:
            await say(writer, messages)
            await eventually(lambda: holds(bus, MESSAGES), within=90)
            await eventually(lambda: is_read(bus), within=300, every=0.5)
        assert all(process.is_ready for process in persisters)
    stored = {row["stream_seq"] for row in await pool.fetch("SELECT stream_seq FROM events")}
    buried = {one.stream_seq: one.reason for one in await DeadLetters(bus).all()}
    assert stored & buried.keys() == set()
    assert stored | buried.keys() == set(range(1, MESSAGES + 1))
    assert all(buried.values())
    for number, message in enumerate(messages, start=1):
        if message.fate != "either":
            assert (message.fate == "stored") == (number in stored), message


GOOD = {
    "id": str(uuid7()),
    "ids": [str(uuid7())],
    "type": "tv_show",
    "title": "It",
    "monitored": True,
    "magnet": "magnet:?xt=urn:btih:" + "a" * 40,
}


def requests() -> Iterator[tuple[str, bytes]]:
    """Each operation's request with each of its fields poisoned, and with poison instead."""
    for subject, (request, _) in OPERATIONS.items():
        names = [field.name for field in msgspec.structs.fields(request)]
        good = msgspec.json.encode({name: GOOD[name] for name in names if name in GOOD})
        for value in (*HARMLESS, *HARMFUL, *DATES, *TEXTS):
            yield subject, value
            for name in (*names, "unknown"):
                yield (
                    subject,
                    b'%b%b"%b":%b}'
                    % (
                        good[:-1],
                        b"," if len(good) > 2 else b"",
                        name.encode(),
                        value,
                    ),
                )


async def test_poisoned_requests_cause_no_internal_error(
    settings: Settings, library: Library, tmp_path: Path
) -> None:
    todo = requests()
    codes: Counter[str] = Counter()

    async def ask() -> None:
        for subject, body in todo:
            while True:
                reply = await library.nats.request(subject, body, timeout=30)
                if not (subject.startswith("dead.") and b'"reason":"busy"' in reply.data):
                    break  # few requests about dead letters are served at a time: ask again
                await asyncio.sleep(0.1)
            code = (reply.headers or {}).get("Nats-Service-Error-Code", "200")
            codes[code] += 1
            assert code in {"200", "400", "404", "409"}, (subject, body[:200], reply.data[:500])

    with processes(settings, tmp_path, "service", "persist") as running:
        await eventually(lambda: all(process.is_ready for process in running))
        await asyncio.gather(*(ask() for _ in range(16)))
        assert all(process.is_ready for process in running)
    assert codes["200"] > 50
    assert codes["400"] > 2000


SUBJECTS = (
    b"events.a.b.c",
    b"$KV.download_status.transmission",
    b"$SRV.PING",
    b"$SRV.INFO.mediabus-media",
    b"media.create",
    b"downloads.initiate",
    b"downloads.list",
    b"history.list",
    b"mediabus.monitor.look.transmission",
    b"mediabus.outbox.recorded",
)
BROKEN_HEADERS = (
    b"NATS/1.0",
    b"NATS/1.0 \xff\xff\xff\r\n\r\n",
    b"NATS/1.0 100 \xff\r\n\r\n",
    b"NATS/1.0\r\nStatus: 409\r\n\r\n",
    b"NATS/1.0\r\nMediabus-Actor-Id: \xff\x00\r\nKV-Operation: \xff\r\n\r\n",
    b"\xff",
)
BODIES = (b"", b"\xff", b"{", b"[" * 500_000, b'{"id":' + b"9" * 500_000 + b"}", b"x" * 900_000)


async def shout(writer: asyncio.StreamWriter, subject: bytes) -> None:
    """Every kind of harm to subscribers of a subject, or of subjects below it."""
    for token in (b"\xff", b"a\x0c7", b"\x0b"):
        writer.write(b"PUB %b.%b 2\r\n{}\r\n" % (subject, token))
    for headers in BROKEN_HEADERS:
        size = len(headers)
        writer.write(b"HPUB %b %d %d\r\n%b\r\n" % (subject, size, size, headers))
    for body in BODIES:
        writer.write(b"PUB %b stranger.reply %d\r\n%b\r\n" % (subject, len(body), body))
    await writer.drain()


async def test_no_process_stalls_because_of_foreign_messages(
    settings: Settings, nats: NatsServer, library: Library, tmp_path: Path
) -> None:
    """Also into the inboxes of those who wait for a reply, which he has overheard."""
    with daemons.Transmission.started() as transmission, own_consumer(nats, tmp_path) as heard:
        settings = with_clients(settings, transmission.settings())
        with processes(settings, tmp_path, "service", "persist", "monitor") as running:
            download = await library.ask("downloads.initiate", torrent())
            await library.event("download.initiated", download["id"])
            await eventually(lambda: "download.initiated" in heard.read_text())
            async with stranger(nats) as writer:
                inboxes = await overheard(nats)
                assert len(inboxes) >= 4
                for subject in (*SUBJECTS, *inboxes):
                    await shout(writer, subject)
            shouted_at = time.monotonic()
            item = await library.ask("media.create", {"type": "tv_show", "title": "It"}, timeout=15)
            added = await library.event("media_item.added", item["id"], within=15)
            async with transmission.settings().connect() as client:
                await client.pause(download["client_item"])
            await library.event("download.paused", download["id"], within=15)
            await eventually(lambda: str(added["id"]) in heard.read_text(), within=15)
            page = await library.ask("history.list", {"resource_id": item["id"]}, timeout=15)
            assert [one["id"] for one in page["items"]] == [str(added["id"])]
            assert time.monotonic() - shouted_at < HEARS_WITHIN
            assert all(process.is_ready for process in running)


async def overheard(nats: NatsServer) -> set[bytes]:
    """The inboxes that are written to within a few seconds."""
    reader, writer = await asyncio.open_connection(HOST, nats.port)
    writer.write(b'CONNECT {"verbose":false,"headers":true}\r\nSUB > 1\r\n')
    said = bytearray()
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(6):
            while part := await reader.read(65_536):
                said += part
    writer.close()
    await writer.wait_closed()
    return set(re.findall(rb"_INBOX\.[A-Za-z0-9]+", said))


OWN_CONSUMER = """
import asyncio, sys
from mediabus.consumers.consume import consume
from mediabus.runtime.settings import NatsSettings

async def handle(envelope):
    print(envelope.id, envelope.type, flush=True)

settings = NatsSettings(url=sys.argv[1])
asyncio.run(consume("own", handle, from_start=True, settings=settings))
"""


@contextlib.contextmanager
def own_consumer(nats: NatsServer, directory: Path) -> Iterator[Path]:
    """A consumer as users would write it; it notes in a file what it handles."""
    heard = directory / "heard"
    command = [sys.executable, "-c", OWN_CONSUMER, nats.url]
    with heard.open("wb") as out:
        process = subprocess.Popen(command, stdout=out, cwd=ROOT)
    try:
        yield heard
        assert process.poll() is None
    finally:
        process.kill()
        process.wait()


def torrent() -> dict[str, Any]:
    shared = torrents.make_torrent("one.bin", random.randbytes(100_000), "http://127.0.0.1:9/")
    return {"title": "One", "torrent": base64.b64encode(shared.content).decode()}


async def holds(bus: Bus, messages: int) -> bool:
    return (await bus.js.stream_info(EVENTS_STREAM)).state.messages >= messages


async def is_read(bus: Bus) -> bool:
    return await is_handled(bus, "persister")
