"""The connection to NATS recovers from any failure, and reports the reason."""

import asyncio
import contextlib
import functools
import gc
import os
import signal
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import uvloop
from nats.aio.msg import Msg
from nats.errors import BadHeaderError
from nats.errors import Error as NatsError

from mediabus.runtime.api.serve import Endpoint, Headers, serving
from mediabus.runtime.nats import bus as connections
from mediabus.runtime.nats.bus import Bus, CannotConnect, PublishFailed, connect
from mediabus.runtime.nats.client import NatsClient, NotAllowed
from mediabus.runtime.settings import NatsSettings
from mediabus.schemas.events import JobExecuted
from mediabus.schemas.identity import Actor
from mediabus.schemas.subjects import EVENTS_STREAM
from tests.support.eventually import eventually
from tests.support.ports import free_port
from tests.support.servers import NatsServer, nats_server
from tests.support.stream import JOB, event, names

HOST = "127.0.0.1"


class Ear:
    """Hears what is said on ``test.>``."""

    def __init__(self, bus: Bus) -> None:
        self._port = port(bus) or 0
        self.heard: list[Msg] = []

    async def take(self, message: Msg) -> None:
        self.heard.append(message)

    async def hears(self, subject: str = "test.word") -> bool:
        """Return whether a message from another connection is received."""
        await speak(self._port, subject.encode())
        return any(message.subject == subject for message in self.heard)


@contextlib.asynccontextmanager
async def ear(bus: Bus) -> AsyncIterator[Ear]:
    it = Ear(bus)
    await bus.nc.subscribe("test.>", cb=it.take)
    await bus.nc.flush()
    yield it


async def speak(port: int, subject: bytes, headers: bytes = b"") -> None:
    """Publishes as a client would that checks nothing, over a plain socket."""
    reader, writer = await asyncio.open_connection(HOST, port)
    try:
        writer.write(b'CONNECT {"verbose":false,"headers":true}\r\n')
        if headers:
            size = len(headers)
            writer.write(b"HPUB %s %d %d\r\n%s\r\nPING\r\n" % (subject, size, size, headers))
        else:
            writer.write(b"PUB %s 0\r\n\r\nPING\r\n" % subject)
        async with asyncio.timeout(5):
            while await reader.readline() != b"PONG\r\n":
                pass
    finally:
        writer.close()
        await writer.wait_closed()


@pytest.fixture
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """The watchdog's time, shorter."""
    monkeypatch.setattr(connections, "PING_TIMEOUT", 2.0)


async def test_connecting_waits_for_a_server_that_starts_later(tmp_path: Path) -> None:
    port = free_port()
    opened = asyncio.Event()

    async def use() -> str:
        async with connect(NatsSettings(url=f"nats://{HOST}:{port}"), name="early") as bus:
            opened.set()
            return str(bus.nc.connected_server_version)

    task = asyncio.create_task(use())
    await asyncio.wait([task], timeout=0.3)
    assert not opened.is_set()
    with nats_server(tmp_path, port):
        assert await asyncio.wait_for(task, 10)


async def test_connecting_stops_at_the_deadline_with_advice() -> None:
    url = f"nats://somebody:secret@{HOST}:{free_port()}"
    with pytest.raises(CannotConnect, match="Start it with `mediabus up`") as failure:
        async with asyncio.timeout(10), connect(NatsSettings(url=url), name="test", wait=0.5):
            pass
    assert "secret" not in str(failure.value)


@pytest.mark.parametrize("how", ["stop", "kill"])
async def test_a_reconnect_keeps_subscriptions(nats: NatsServer, bus: Bus, how: str) -> None:
    async with ear(bus) as it:
        assert await eventually(it.hears)
        getattr(nats, how)()
        await eventually(lambda: not bus.is_connected)
        it.heard.clear()
        await asyncio.to_thread(nats.start)
        await eventually(lambda: bus.is_connected)
        assert await eventually(it.hears)


async def test_publishing_without_nats_fails_at_once(nats: NatsServer, bus: Bus) -> None:
    nats.stop()
    await eventually(lambda: not bus.is_connected)
    with pytest.raises(PublishFailed, match="not connected"):
        await bus.publish(JobExecuted(job_name="lost"), actor=JOB)
    await asyncio.to_thread(nats.start)
    await eventually(lambda: bus.is_connected)
    await bus.publish(JobExecuted(job_name="kept"), actor=JOB)
    assert await names(bus) == ["kept"]


async def test_the_same_event_again_is_stored_once(bus: Bus) -> None:
    said = event("one")
    await bus.publish_envelope(said)
    await bus.publish_envelope(said)
    assert await names(bus) == ["one"]


async def test_a_missing_stream_is_named(bus: Bus) -> None:
    await bus.js.delete_stream(EVENTS_STREAM)
    with pytest.raises(PublishFailed, match="no stream EVENTS yet: start mediabus"):
        await bus.publish_envelope(event("one"))


@pytest.fixture
def guarded(tmp_path: Path) -> Iterator[NatsServer]:
    """A server whose user may do nothing with events."""
    rules = 'publish: {deny: "events.>"}'
    users = f"[{{user: guest, password: guest, permissions: {{{rules}}}}}]"
    with nats_server(tmp_path, config_extra=f"authorization: {{users: {users}}}") as server:
        yield server


async def test_a_forbidden_publish_names_the_subject(guarded: NatsServer) -> None:
    settings = NatsSettings(url=guarded.url, user="guest", password="guest")
    async with connect(settings, name="test", wait=10) as bus:
        began = time.monotonic()
        with pytest.raises(PublishFailed, match=r"does not let this user publish to events\."):
            await bus.publish_envelope(event("one"))
        with pytest.raises(NotAllowed, match=r"does not let this user ask events\.a"):
            await bus.nc.request("events.a", timeout=20)
        assert time.monotonic() - began < 4  # and not after a timeout of 5 s and one of 20 s


async def test_a_wrong_password_is_logged_while_waiting(guarded: NatsServer) -> None:
    settings = NatsSettings(url=guarded.url, user="guest", password="wrong")
    with pytest.raises(CannotConnect, match="Authorization Violation"):
        async with asyncio.timeout(10), connect(settings, name="test", wait=0.5):
            pass


@pytest.mark.parametrize("space", [b"\f", b"\v", b"\x1c", b"\x85", b"\0"])
async def test_a_subject_with_white_space_is_received(
    nats: NatsServer, bus: Bus, space: bytes
) -> None:
    """NATS takes anything but blank and tab; nats-py would look for the rest of the line in it."""
    async with ear(bus) as it:
        await speak(nats.port, b"test.a%b7" % space)
        await eventually(it.hears, within=2)
    assert it.heard[0].subject != "test.word"
    assert it.heard[0].data == b""


@pytest.mark.parametrize(
    "headers",
    [b"NATS/1.0", b"NATS/1.0 \xff\xfe\xff\r\n\r\n", b"NATS/1.0 100 \xff\r\n\r\n", b"\xff"],
)
async def test_malformed_headers_are_received(nats: NatsServer, bus: Bus, headers: bytes) -> None:
    async with ear(bus) as it:
        await speak(nats.port, b"test.dune", headers=headers)
        await eventually(it.hears, within=2)


async def test_a_subject_that_is_not_utf8_is_received(nats: NatsServer, bus: Bus) -> None:
    """nats-py decodes subjects strictly, and its read loop would end here without a word."""
    async with ear(bus) as it:
        await speak(nats.port, b"test.d\xffne")
        await eventually(it.hears, within=2)
    assert it.heard[0].subject == r"test.d\xffne"


async def test_messages_have_arrived_after_a_flush(nats: NatsServer) -> None:
    """A ping of nats-py overtakes pending writes, so a message sent then can be lost."""
    said = bytearray()
    ended = asyncio.Event()

    async def overhear(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        server_reader, server = await asyncio.open_connection(HOST, nats.port)
        answering = asyncio.create_task(pass_on(server_reader, writer, bytearray()))
        await pass_on(reader, server, said)
        await answering
        ended.set()

    settings = NatsSettings(url=f"nats://{HOST}:{(overheard := free_port())}")
    async with (
        await asyncio.start_server(overhear, HOST, overheard),
        connect(settings, name="test", wait=10) as bus,
    ):
        await bus.nc.subscribe("test.word")
        await bus.nc.flush()
        assert said.index(b"SUB test.word") < said.rindex(b"PING")
    await asyncio.wait_for(ended.wait(), timeout=10)


async def pass_on(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, said: bytearray
) -> None:
    """Until one end leaves; ``said`` is all of it."""
    while read := await reader.read(65536):
        said += read
        writer.write(read)
    writer.close()
    await writer.wait_closed()


@pytest.mark.usefixtures("_soon")
async def test_an_unresponsive_connection_is_replaced(bus: Bus) -> None:
    """Where nats-py's read loop has ended the connection says that it is there."""
    async with ear(bus) as it:
        reading = bus.nc._reading_task
        assert reading
        reading.cancel()
        assert bus.is_connected
        await eventually(it.hears, within=20)


async def test_a_reply_after_the_timeout_is_ignored(nats: NatsServer, bus: Bus) -> None:
    """nats-py's read loop ends on it."""
    connection = bus.connection
    with standing_still(nats), pytest.raises(NatsError):
        await bus.nc.flush(timeout=1)
    await bus.nc.flush()
    assert (bus.is_connected, bus.connection) == (True, connection)


@pytest.mark.usefixtures("_soon")
def test_a_connection_lost_during_publish_or_ping_is_reopened(nats: NatsServer) -> None:
    """On uvloop, as the processes run: it has an error of its own for what has just ended."""

    async def publish() -> None:
        async with connect(NatsSettings(url=nats.url), name="test", wait=10) as bus:
            assert isinstance(bus.nc, NatsClient)
            for moments in range(6):
                await eventually(lambda: bus.is_connected)
                bus.nc.hang_up()
                for _ in range(moments):
                    await asyncio.sleep(0)
                with contextlib.suppress(NatsError):
                    await bus.nc.rtt(timeout=1)
            for _ in range(20):
                await eventually(lambda: bus.is_connected)
                bus.nc.hang_up()
                for _ in range(50):
                    await bus.nc.publish("a", b"")
                    await asyncio.sleep(0)
            await eventually(lambda: bus.is_connected)
            await bus.nc.flush()

    uvloop.run(publish())


async def test_a_server_that_was_stopped_is_reached_again(nats: NatsServer, bus: Bus) -> None:
    async with ear(bus) as it:
        with standing_still(nats):
            await eventually(lambda: not bus.is_connected, within=20)
        await eventually(lambda: bus.is_connected, within=15)
        await eventually(it.hears, within=20)


def state(thread: Path) -> str:
    return (thread / "stat").read_text().rpartition(")")[2].split()[0]


async def test_a_service_that_starts_while_nats_is_stopped_answers_later(
    nats: NatsServer, bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bus.nc, "flush", functools.partial(bus.nc.flush, timeout=1))
    endpoint = Endpoint("test.echo", echo)
    async with contextlib.AsyncExitStack() as stack:
        with standing_still(nats):
            here = serving(bus, name="test", description="Echoes", endpoints=[endpoint])
            await stack.enter_async_context(here)
        reply = await bus.nc.request("test.echo", b"who?", timeout=5)
        assert reply.data == b"who?"


async def echo(body: bytes, headers: Headers, proven: Actor | None = None) -> bytes:  # noqa: ARG001 - as an endpoint is called
    return body


@contextlib.contextmanager
def standing_still(server: NatsServer) -> Iterator[None]:
    os.kill(server.pid, signal.SIGSTOP)
    try:
        while {state(thread) for thread in Path(f"/proc/{server.pid}/task").iterdir()} != {"T"}:
            pass
        yield
    finally:
        os.kill(server.pid, signal.SIGCONT)


async def test_a_header_is_always_one_line(bus: Bus) -> None:
    heard = await bus.nc.subscribe("test.headers")
    headers = {" X-Reason ": " one\r\nX-Other: two\n ", "X-Empty": "", " ": "nameless"}
    await bus.nc.publish("test.headers", headers=headers)
    message = await heard.next_msg(timeout=5)
    assert message.headers == {"X-Reason": "one  X-Other: two", "X-Empty": ""}
    with pytest.raises(BadHeaderError):
        await bus.nc.publish("test.headers", headers={"X-Reason\r\nX-Other": "two"})


async def test_a_server_error_causes_a_reconnect(bus: Bus) -> None:
    """A message that is too large with its headers: the server reports it and hangs up."""
    large = {"X-Large": "x" * 1000}
    async with ear(bus) as it:
        with contextlib.suppress(NatsError):
            await bus.nc.publish("test.large", b"x" * bus.nc.max_payload, headers=large)
        await eventually(lambda: not bus.is_connected)
        await eventually(lambda: bus.is_connected)
        assert not bus.nc.is_closed
        await eventually(it.hears)


async def test_closing_does_not_wait_for_a_stuck_server(nats: NatsServer, nats_url: str) -> None:
    async with contextlib.AsyncExitStack() as stack:
        bus = await stack.enter_async_context(connect(NatsSettings(url=nats_url), name="test"))
        with standing_still(nats):
            await write_more_than_it_takes(bus)
            await asyncio.wait_for(stack.aclose(), 5)


async def test_waiting_for_a_stuck_server_can_be_cancelled(nats: NatsServer, bus: Bus) -> None:
    """nats-py keeps the cancellation to itself: a relay would go on without its lease."""

    async def publish() -> None:
        while True:
            await bus.nc.publish("test.large", b"x" * 1_000_000)

    with standing_still(nats):
        publishing = asyncio.create_task(publish())
        await asyncio.wait([publishing], timeout=1)
        publishing.cancel()
        await asyncio.wait([publishing], timeout=2)
        assert publishing.cancelled()


async def write_more_than_it_takes(bus: Bus) -> None:
    """More than the buffers of both ends, and less than what would make us wait."""
    for _ in range(14):
        await bus.nc.publish("test.large", b"x" * 1_000_000)
    await asyncio.sleep(0)


@pytest.mark.usefixtures("_soon")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
async def test_a_stuck_server_is_replaced_by_another(nats: NatsServer, tmp_path: Path) -> None:
    """If nats-py tries the stuck server first, it forgets to close that connection.

    The garbage collector then warns about it.
    """
    with nats_server(tmp_path) as other:
        settings = NatsSettings(url=f"{nats.url},{other.url}")
        async with connect(settings, name="test") as bus:
            stuck, free = (nats, other) if port(bus) == nats.port else (other, nats)
            with standing_still(stuck):
                await write_more_than_it_takes(bus)
                await eventually(lambda: port(bus) == free.port, within=20)
    gc.collect()


def port(bus: Bus) -> int | None:
    return bus.nc.connected_url.port if bus.nc.connected_url else None
