"""The parser of the NATS protocol delivers what nats-py's own parser delivers."""

import asyncio
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some
from nats.errors import ProtocolError
from nats.protocol import parser as nats_py

from mediabus.runtime.nats.parser import Parser

OURS, OTHER = 1, 2
ACK = b"$JS.ACK.EVENTS.persister.1.7.7.1764000000000000000.0"
HEADERS = b"NATS/1.0\r\nNats-Msg-Id: 1\r\n\r\n"

Received = list[tuple[Any, ...]]


class Client:
    """Records what a parser passes on, and whether our parser took a message by itself."""

    def __init__(self) -> None:
        self.received: Received = []
        self.taken = 0

    def takes_raw(self, sid: int, reply: bytes) -> bool:
        return sid == OURS and reply.startswith(b"$JS.ACK.")

    def receive(self, sid: int, subject: bytes, reply: bytes, headers: bytes, data: bytes) -> None:
        self.taken += 1
        self.received.append((sid, subject, reply, headers, data))

    async def _process_msg(
        self, sid: int, subject: bytes, reply: bytes, data: bytes, headers: bytes | None
    ) -> None:
        self.received.append((sid, subject, reply, headers, data))

    async def _process_ping(self) -> None:
        self.received.append(("PING",))

    async def _process_pong(self) -> None:
        self.received.append(("PONG",))

    async def _process_err(self, reason: str) -> None:
        self.received.append(("-ERR", reason))

    async def _process_info(self, info: dict[str, Any]) -> None:
        self.received.append(("INFO", info))


def hmsg(sid: int, reply: bytes, data: bytes, headers: bytes = HEADERS) -> bytes:
    sizes = b"%d %d" % (len(headers), len(headers) + len(data))
    line = b" ".join(part for part in (b"HMSG", b"events.a", b"%d" % sid, reply, sizes) if part)
    return line + b"\r\n" + headers + data + b"\r\n"


def msg(sid: int, reply: bytes, data: bytes) -> bytes:
    line = b" ".join(part for part in (b"MSG", b"events.a", b"%d" % sid, reply) if part)
    return b"%b %d\r\n%b\r\n" % (line, len(data), data)


BODIES = some.binary(max_size=40) | some.sampled_from([b"\r\n", b"HMSG a 1 b 2 3\r\n", b"x" * 9000])
ITEMS = (
    some.builds(hmsg, some.sampled_from([OURS, OTHER]), some.sampled_from([ACK, b"r", b""]), BODIES)
    | some.builds(msg, some.sampled_from([OURS, OTHER]), some.sampled_from([ACK, b""]), BODIES)
    | some.sampled_from([b"PING\r\n", b"PONG\r\n", b"+OK\r\n", b"-ERR 'Stale'\r\n"])
    | some.just(b'INFO {"server_id":"' + b"x" * 5000 + b'"}\r\n')
    | some.just(b"HMSG\tevents.a\t1  " + ACK + b" 28 28\r\n" + HEADERS + b"\r\n")
)


async def received(parser: nats_py.Parser, client: Client, pieces: list[bytes]) -> Received:
    for piece in pieces:
        await parser.parse(piece)
    return client.received


def cut(stream: bytes, size: int) -> list[bytes]:
    return [stream[start : start + size] for start in range(0, len(stream), size)]


def check(stream: bytes, size: int) -> None:
    ours, theirs = Client(), Client()
    found = asyncio.run(received(Parser(ours), ours, cut(stream, size)))
    assert found == asyncio.run(received(nats_py.Parser(theirs), theirs, [stream]))


@settings(max_examples=300)
@given(items=some.lists(ITEMS, max_size=12), size=some.integers(1, 400))
def test_messages_are_those_that_nats_py_reads(items: list[bytes], size: int) -> None:
    """However the bytes of the server are cut into reads."""
    check(b"".join(items), size)


def test_a_stream_may_be_cut_anywhere() -> None:
    messages = [hmsg(OURS, ACK, b"a\r\n"), hmsg(OURS, ACK, b""), hmsg(OURS, b"", b"b")]
    stream = b"".join([*messages, b"PING\r\n", msg(OTHER, b"", b"c"), *messages])
    for size in range(1, len(stream) + 1):
        check(stream, size)


def test_messages_of_one_read_are_taken_at_once() -> None:
    client = Client()
    stream = b"".join(hmsg(OURS, ACK, b"%d" % number) for number in range(100))
    pieces = [stream[:1000], stream[1000:]]
    assert len(asyncio.run(received(Parser(client), client, pieces))) == 100
    assert client.taken == 99  # one was cut, and nats-py put it together


@pytest.mark.parametrize("line", [b"HMSG a 1 $JS.ACK.b x 3", b"HMSG a y $JS.ACK.b 2 3"])
def test_a_malformed_line_reconnects(line: bytes) -> None:
    client = Client()
    with pytest.raises(ProtocolError):
        asyncio.run(received(Parser(client), client, [line + b"\r\n"]))
