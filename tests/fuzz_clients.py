"""Fuzzing the adapters of the download clients over the wire: recorded answers, changed anywhere.

python -m tests.fuzz_clients [--examples 20000] [KIND ...]
"""

import argparse
import asyncio
import contextlib
import copy
import ssl
import struct
import sys
import tempfile
import time
import xmlrpc.client
import zlib
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from mediabus.schemas.status import DownloadStatus, ItemId
from mediabus.service.clients.deluge import rencode
from mediabus.service.clients.guard import TIMEOUTS, guarded
from mediabus.service.clients.port import ClientRefused, ClientUnavailable, Delta, Snapshot
from mediabus.service.clients.sane import is_item_id
from mediabus.service.clients.sessions import KINDS
from mediabus.service.clients.settings import ClientSettings
from tests.support import dialects
from tests.support.hostile import own_certificate

HOST: Final = "127.0.0.1"
TIMEOUT: Final = 0.4
"""Seconds for one request of an adapter: slow and endless answers take as long."""

BOUND: Final = 30 * TIMEOUT
"""Seconds for the calls of one example, on a busy machine."""

MAX_CPU_SECONDS: Final = TIMEOUTS * TIMEOUT + 3.0
"""CPU time of one call, with the server's part: a call that needs more blocks its process."""

MIN_EXAMPLES: Final = 20
"""Examples that are tried in any case: on a busy machine the time ends after a few."""

DEEP: Final = 5_000

JUNK: Final = st.one_of(
    st.recursive(
        st.none()
        | st.booleans()
        | st.integers()
        | st.floats(allow_nan=False, allow_infinity=False)
        | st.text(max_size=20),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
        max_leaves=8,
    ),
    st.sampled_from(
        [
            "",
            "0",
            "-1",
            "nan",
            "\0",
            "\u202e\n",
            "x" * 6_000,
            "x" * 100_000,
            "errno 99999999999999999999",
            "http://[",
            "../../x",
            -1,
            2**31,
            2**63,
            10**30,
            10**400,
            1e308,
            -1e308,
            [],
            {},
        ]
    ),
)
"""What stands where an adapter expects something else."""


class Plan(NamedTuple):
    """The changes to each answer, and how it is sent.

    Values are replaced by their number, bytes by their position.
    """

    values: list[tuple[int, Any]]
    bytes: list[tuple[int, int]]
    way: str


PLANS: Final = st.builds(
    Plan,
    st.lists(st.tuples(st.integers(0, 10_000), JUNK), max_size=3),
    st.lists(st.tuples(st.integers(0, 100_000), st.integers(0, 255)), max_size=2),
    st.sampled_from([*["whole"] * 20, "half", "twice", "deep", "slow", "endless", "status"]),
)


def changed(answer: Any, plan: Plan) -> Any:
    """A copy of the answer with some of its values replaced."""
    answer = [copy.deepcopy(answer)]
    for number, junk in plan.values:
        places = list(_places(answer))
        holder, key = places[number % len(places)]
        holder[key] = copy.deepcopy(junk)
    return answer[0]


def _places(value: Any) -> Any:
    """Each container and key of a value in this one."""
    items = enumerate(value) if isinstance(value, list) else value.items()
    for key, inner in list(items):
        yield value, key
        if isinstance(inner, list | dict):
            yield from _places(inner)


def mangled(body: bytes, plan: Plan) -> bytes:
    """The encoded answer with some of its bytes replaced, as a part, twice or inside of lists."""
    changing = bytearray(body)
    for place, byte in plan.bytes:
        if changing:
            changing[place % len(changing)] = byte
    body = bytes(changing)
    ways = {"half": body[: len(body) // 2], "twice": body + body}
    return ways.get(plan.way, body)


class Server:
    """A client of some kind that answers by a plan."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.plan = Plan([], [], "whole")

    def reply(self, request: bytes) -> Any:
        """What it answers to a request over HTTP, before the plan changes it."""
        return dialects.HTTP[self.kind](request)

    async def converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection."""
        speak = {"rtorrent": self._scgi, "deluge": self._deluge}.get(self.kind, self._http)
        try:
            with contextlib.suppress(OSError, EOFError, asyncio.LimitOverrunError):
                await speak(reader, writer)
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    async def _http(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            length = 0
            for line in head.lower().split(b"\r\n"):
                if line.startswith(b"content-length:"):
                    length = int(line.partition(b":")[2])
            request = head + await reader.readexactly(length)
            answer = self.reply(request)
            if self.plan.way == "deep":
                body = b'{"result":' + b"[" * DEEP
            else:
                answer = changed(answer, self.plan)
                body = mangled(answer if isinstance(answer, bytes) else encoded(answer), self.plan)
            status = b"500 Oops" if self.plan.way == "status" else b"200 OK"
            head = b"HTTP/1.1 %b\r\nSet-Cookie: SID=1\r\nContent-Length: %d\r\n\r\n"
            await self._send(writer, head % (status, len(body)) + body)

    async def _scgi(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readexactly(int((await reader.readuntil(b":"))[:-1]) + 1)
        request = await reader.readexactly(int(head.split(b"\0")[1]))
        if self.plan.way == "deep":
            body = b"<methodResponse>" + b"<array><data><value>" * DEEP
        else:
            answer = changed(dialects.rtorrent(request), self.plan)
            body = mangled(_xml(answer), self.plan)
        status = b"500 Oops" if self.plan.way == "status" else b"200 OK"
        await self._send(writer, b"Status: %b\r\n\r\n%b" % (status, body))

    async def _deluge(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            _, length = struct.unpack("!BI", await reader.readexactly(5))
            call = rencode.decode(zlib.decompress(await reader.readexactly(length)))
            assert isinstance(call, tuple)
            assert isinstance(call[0], tuple)
            number, method, *_ = call[0]
            answer = dialects.deluge(str(method))
            if method != "daemon.login":
                answer = changed(answer, self.plan)
            kind = 2 if self.plan.way == "status" else 1
            content = rencode.encode([kind, number, answer])
            if self.plan.way == "deep":
                content = b"\xc1" * DEEP
            if method != "daemon.login":
                content = mangled(content, self.plan)
            packed = zlib.compress(content)
            await self._send(writer, struct.pack("!BI", 1, len(packed)) + packed)

    async def _send(self, writer: asyncio.StreamWriter, message: bytes) -> None:
        match self.plan.way:
            case "slow":
                for start in range(0, len(message), 40):
                    writer.write(message[start : start + 40])
                    await writer.drain()
                    await asyncio.sleep(0.02)
            case "endless":
                while True:
                    writer.write(message)
                    await writer.drain()
                    await asyncio.sleep(0)  # the client runs in this loop too
            case _:
                writer.write(message)
                await writer.drain()


def encoded(answer: Any) -> bytes:
    """As JSON, with numbers that msgspec would not write."""
    return msgspec.json.encode(answer, enc_hook=str) if _is_plain(answer) else b'{"result":1e999}'


def _is_plain(answer: Any) -> bool:
    try:
        msgspec.json.encode(answer)
    except (ValueError, OverflowError, TypeError):
        return False
    return True


def _xml(answer: Any) -> bytes:
    try:
        return xmlrpc.client.dumps((answer,), methodresponse=True, allow_none=True).encode()
    except (TypeError, OverflowError, ValueError):
        return b"<methodResponse><params><param><value><i8>9</i8></value></param></params>"


@contextlib.asynccontextmanager
async def serving(kind: str, tls: ssl.SSLContext | None) -> AsyncIterator[tuple[Server, str]]:
    """The server and its address."""
    server = Server(kind)
    listener = await asyncio.start_server(server.converse, HOST, 0, ssl=tls)
    port = listener.sockets[0].getsockname()[1]
    scheme = {"rtorrent": "scgi", "deluge": "deluge"}.get(kind, "http")
    async with listener:
        yield server, f"{scheme}://{HOST}:{port}"


async def bear(client_settings: ClientSettings) -> None:
    """Every call has an outcome of the port, in time, and what is observed can be kept."""
    item = ItemId(dialects.HASH)
    started = time.monotonic()
    async with guarded(client_settings) as client:
        for call in (client.observe, client.observe, client.version):
            with contextlib.suppress(ClientUnavailable, ClientRefused), computes_little():
                must_be_kept(await call())
        for command in (client.pause(item), client.resume(item)):
            with contextlib.suppress(ClientUnavailable, ClientRefused), computes_little():
                await command
        with contextlib.suppress(ClientUnavailable, ClientRefused), computes_little():
            await client.remove(item, delete_files=False)
    assert time.monotonic() - started < BOUND


@contextlib.contextmanager
def computes_little() -> Iterator[None]:
    """Fail if a call computed too much, whether it returned or raised."""
    started = time.thread_time()
    try:
        yield
    finally:
        assert time.thread_time() - started < MAX_CPU_SECONDS


def must_be_kept(seen: object) -> None:
    """Everything that a client shows can be written into the bucket, read again, and stored."""
    match seen:
        case Snapshot(items):
            statuses = list(items)
        case Delta(changed_ones, removed):
            statuses = list(changed_ones)
            assert all(is_item_id(item) for item in removed)
        case _:
            assert isinstance(seen, str)
            seen.encode()
            return
    for status in statuses:
        written = msgspec.json.encode(status)
        assert len(written) < 100_000
        assert b"\\u0000" not in written
        assert msgspec.json.decode(written, type=DownloadStatus) == status


def fuzz(kind: str, examples: int, *, seconds: float = float("inf")) -> int:
    """Try so many examples, until so many seconds have passed. Return how many were tried."""
    deadline, tried = time.monotonic() + seconds, 0
    with tempfile.TemporaryDirectory(prefix="mediabus-fuzz-") as directory, asyncio.Runner() as run:
        tls = own_certificate(Path(directory)) if kind == "deluge" else None

        async def example(plan: Plan) -> None:
            async with serving(kind, tls) as (server, url):
                server.plan = plan
                await bear(KINDS[kind](name="fuzzed", url=url, timeout=TIMEOUT))

        @settings(
            max_examples=examples,
            deadline=None,
            database=None,
            phases=[Phase.generate, Phase.shrink],
            suppress_health_check=[*HealthCheck],
        )
        @given(PLANS)
        def attempt(plan: Plan) -> None:
            nonlocal tried
            if tried < MIN_EXAMPLES or time.monotonic() < deadline:
                tried += 1
                run.run(example(plan))

        run.run(example(Plan([], [], "whole")))
        attempt()
    return tried


def main() -> None:
    """Fuzz the kinds named, or all."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--examples", type=int, default=2_000)
    parser.add_argument("kinds", nargs="*", default=list(KINDS))
    arguments = parser.parse_args()
    for kind in arguments.kinds:
        sys.stdout.write(f"{kind}: {fuzz(kind, arguments.examples)} examples\n")


if __name__ == "__main__":
    main()
