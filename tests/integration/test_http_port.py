"""`/livez` answers, however many clients sit on the port and do nothing, or do it slowly."""

import asyncio
import contextlib
import http.client
import resource
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from mediabus.runtime.process import http_server
from mediabus.runtime.process.health import serving
from mediabus.runtime.settings import HttpSettings
from tests.support.eventually import eventually

SERVE = """
import asyncio, resource, sys
import uvloop
from mediabus.runtime.process.health import serving
from mediabus.runtime.settings import HttpSettings

async def main():
    async with serving(HttpSettings(port=0), default_port=0, checks={}) as port:
        print(port, flush=True)
        await asyncio.Event().wait()

descriptors = int(sys.argv[1])
resource.setrlimit(resource.RLIMIT_NOFILE, (descriptors, descriptors))
(uvloop.run if sys.argv[2] == "uvloop" else asyncio.run)(main())
"""


@contextlib.contextmanager
def served(descriptors: int, loop: str) -> Iterator[tuple[int, int]]:
    """A process that serves with so many descriptors: its port and its number."""
    command = [sys.executable, "-c", SERVE, str(descriptors), loop]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout
            yield int(process.stdout.readline()), process.pid
        finally:
            process.kill()


@pytest.fixture
def room() -> Iterator[None]:
    """Descriptors for a thousand clients of our own."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 8192), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@contextlib.contextmanager
def clients(port: int, count: int, said: bytes) -> Iterator[list[socket.socket]]:
    """So many connections, each of which has said something and waits."""
    with contextlib.ExitStack() as stack:
        opened = []
        for _ in range(count):
            client = stack.enter_context(socket.create_connection(("127.0.0.1", port), 10))
            with contextlib.suppress(OSError):
                client.sendall(said)
            opened.append(client)
        yield opened


def ask(port: int, path: str = "/livez", method: str = "GET") -> int:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    with contextlib.closing(connection):
        connection.request(method, path)
        return connection.getresponse().status


IDLE = b""
HALF_A_HEADER = b"GET /livez HTTP/1.1\r\nHost: x\r\nX-Slow: "
KEPT_ALIVE = b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n"
HALF_A_BODY = b"POST /livez HTTP/1.1\r\nHost: x\r\nContent-Length: 99999\r\n\r\nx"


@pytest.mark.usefixtures("room")
@pytest.mark.parametrize("loop", ["uvloop", "asyncio"])
@pytest.mark.parametrize("said", [IDLE, HALF_A_HEADER, KEPT_ALIVE, HALF_A_BODY])
def test_a_thousand_idle_connections_do_not_block_requests(said: bytes, loop: str) -> None:
    with served(256, loop) as (port, pid), clients(port, 1100, said):
        for _ in range(20):
            assert ask(port) == 200
        assert len(list(Path(f"/proc/{pid}/fd").iterdir())) < 128


@contextlib.asynccontextmanager
async def here() -> AsyncIterator[int]:
    async with serving(HttpSettings(port=0), default_port=0, checks={}) as port:
        yield port


async def test_a_slow_client_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_server, "MAX_LIFETIME", 0.5)
    async with here() as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        started = time.monotonic()
        writer.write(HALF_A_HEADER)
        with contextlib.suppress(ConnectionError):
            while time.monotonic() - started < 10 and not reader.at_eof():
                writer.write(b"x")
                await writer.drain()
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(reader.read(1), 0.05)
        assert 0.4 < time.monotonic() - started < 5
        writer.close()


async def test_known_paths_are_served_and_others_are_not() -> None:
    async with here() as port:
        assert await asyncio.to_thread(ask, port, "/metrics") == 200
        assert await asyncio.to_thread(ask, port, "/readyz?x=1") == 200
        assert await asyncio.to_thread(ask, port, "/livez", "HEAD") == 200
        assert await asyncio.to_thread(ask, port, "/livez", "POST") == 405
        assert await asyncio.to_thread(ask, port, "/") == 404


async def test_concurrent_readiness_requests_share_one_check() -> None:
    asked, done = 0, asyncio.Event()

    async def check() -> str | None:
        nonlocal asked
        asked += 1
        await done.wait()
        return "not yet"

    async with serving(HttpSettings(port=0), default_port=0, checks={"it": check}) as port:
        asking = [asyncio.create_task(asyncio.to_thread(ask, port, "/readyz")) for _ in range(5)]
        await eventually(lambda: asked)
        done.set()
        assert set(await asyncio.gather(*asking)) == {503}
    assert asked <= 2
