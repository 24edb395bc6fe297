"""Receivers that answer in ways no program should: nothing is lost, doubled, or stuck."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from mediabus.runtime.nats.bus import Bus
from tests.support.notifying import config_of, events_in, idle, notifying, publish
from tests.support.receiver import receiving

HOST = "127.0.0.1"
HEAD = b"HTTP/1.1 %s\r\nContent-Type: text/plain\r\n"

Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class RawServer:
    """A server that reads a request and then writes the bytes of the test."""

    def __init__(self, talk: Talk) -> None:
        self.url = ""
        self.requests = 0
        self._talk = talk
        self._open: list[asyncio.StreamWriter] = []

    def abort(self) -> None:
        """Close all connections at once."""
        for writer in self._open:
            writer.transport.abort()

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open.append(writer)
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            while head := await reader.readuntil(b"\r\n\r\n"):
                length = int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0])
                await reader.readexactly(length)
                self.requests += 1
                await self._talk(reader, writer)
        writer.close()


@contextlib.asynccontextmanager
async def raw(talk: Talk) -> AsyncIterator[RawServer]:
    served = RawServer(talk)
    server = await asyncio.start_server(served.handle, HOST, 0)
    served.url = f"http://{HOST}:{server.sockets[0].getsockname()[1]}/hook"
    try:
        yield served
    finally:
        server.close()
        served.abort()


def says(*parts: bytes, waits: bool = False) -> Talk:
    """Write bytes, and then close the connection, or wait for the client to do so."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for part in parts:
            writer.write(part)
            await writer.drain()
        if waits:
            await reader.read()
        writer.close()

    return talk


async def endless(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer 500 with a body without an end."""
    writer.write(HEAD % b"500 Oh" + b"\r\n")
    while True:
        writer.write(b"x" * 65_536)
        await writer.drain()


ACCEPTS = {
    "a body that never comes": says(HEAD % b"200 OK" + b"Content-Length: 5\r\n\r\n", waits=True),
    "a chunked body that stalls": says(
        HEAD % b"202 OK" + b"Transfer-Encoding: chunked\r\n\r\n", waits=True
    ),
    "a body cut short": says(HEAD % b"200 OK" + b"Content-Length: 500\r\n\r\nno"),
}


@pytest.mark.parametrize("talk", ACCEPTS.values(), ids=ACCEPTS.keys())
async def test_a_2xx_accepts_the_message_with_any_body(bus: Bus, talk: Talk) -> None:
    """The receiver has the event. Another attempt would double it, on each retry."""
    async with raw(talk) as server:
        config = config_of({"name": "hook", "webhook": server.url, "timeout": 0.5})
        async with notifying(bus, config):
            await publish(bus, "one", "two")
            await idle(bus, "hook")
        assert server.requests == 2
    assert len(await events_in(bus, "notification.delivered")) == 2


FAILS = {
    "control characters": says(HEAD % b"500 Oh" + b"\r\n\0\x1b[31m\xff\xfe\r\n\xe2\x80\xae"),
    "an endless body": endless,
    "no HTTP": says(b"\0\0\0\0 hello\r\n\r\n"),
    "headers without an end": says(
        b"HTTP/1.1 500 Oh\r\n", *[b"x-a: " + b"a" * 8000 + b"\r\n"] * 100
    ),
    "a reason of a megabyte": says(b"HTTP/1.1 500 " + b"a" * 1_000_000 + b"\r\n\r\n"),
    "closes at once": says(),
    "only informational answers": says(b"HTTP/1.1 100 Continue\r\n\r\n" * 100),
    "a redirect": says(b"HTTP/1.1 307 Go\r\nLocation: http://169.254.169.254/\r\n\r\n"),
    "a redirect to itself": says(b"HTTP/1.1 302 Go\r\nLocation: /hook\r\n\r\n"),
    "an odd Retry-After": says(HEAD % b"429 Slow" + b"Retry-After: Mon, 99 Foo 0000\r\n\r\n"),
    "a negative Retry-After": says(HEAD % b"503 Slow" + b"Retry-After: -1e999\r\n\r\n"),
}


@pytest.mark.parametrize("talk", FAILS.values(), ids=FAILS.keys())
async def test_after_a_broken_answer_the_event_is_delivered_once_in_order(
    bus: Bus, talk: Talk
) -> None:
    """The first answer is broken. The same address then gets a receiver that works."""
    broken = 0

    async def proxied(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal broken
        if not broken:
            broken += 1
            await talk(reader, writer)
        else:
            await says(b"HTTP/1.1 204 No Content\r\n\r\n")(reader, writer)

    async with raw(proxied) as server, receiving() as healthy:
        hook = {"name": "hook", "webhook": server.url, "timeout": 1}
        other = {"name": "other", "webhook": healthy.url}
        async with notifying(bus, config_of(hook, other)):
            await publish(bus, "one", "two")
            await idle(bus, "hook")
            await idle(bus, "other")
        assert server.requests == 3
    assert healthy.jobs == ["one", "two"]
    delivered = await events_in(bus, "notification.delivered")
    hooks = [e.fields() for e in delivered if e.fields()["target"] == "hook"]
    assert [one["attempts"] for one in hooks] == [2, 1]
    [failed] = await events_in(bus, "notification.failed")
    reason = str(failed.fields()["error_message"])
    assert reason.isprintable(), repr(reason)
    assert len(reason) < 2_000
