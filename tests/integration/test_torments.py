"""The parts of the chaos test work: links, clocks, disks and plans."""

import asyncio
import contextlib
import itertools
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from chaos import clock, disks
from chaos.faults import KINDS, planned
from chaos.network import HOST, RESENT_AFTER, Link

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@pytest.fixture
async def link() -> AsyncIterator[Link]:
    """A link to an echo server."""

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.closing(writer):
            while data := await reader.read(1000):
                writer.write(data)

    server = await asyncio.start_server(echo, HOST, 0)
    link = Link(server.sockets[0].getsockname()[1])
    async with link.working():
        yield link
    server.close()


async def echo_of(streams: Streams, data: bytes, within: float = 10) -> bytes:
    reader, writer = streams
    writer.write(data)
    return await asyncio.wait_for(reader.read(1000), within)


@contextlib.asynccontextmanager
async def connected(link: Link) -> AsyncIterator[Streams]:
    reader, writer = await asyncio.open_connection(HOST, link.port)
    try:
        yield reader, writer
    finally:
        writer.transport.abort()


async def test_a_cut_link_refuses_connections_until_mended(link: Link) -> None:
    async with connected(link) as streams:
        assert await echo_of(streams, b"one") == b"one"
        link.cut()
        with contextlib.suppress(ConnectionError):
            assert await asyncio.wait_for(streams[0].read(), 10) == b""
    async with connected(link) as streams:
        with contextlib.suppress(ConnectionError):
            assert await echo_of(streams, b"two") == b""
    link.mend()
    async with connected(link) as streams:
        assert await echo_of(streams, b"three") == b"three"


async def test_a_silenced_link_delivers_once_mended(link: Link) -> None:
    async with connected(link) as streams:
        assert await echo_of(streams, b"one") == b"one"
        link.silence()
        with pytest.raises(TimeoutError):
            await echo_of(streams, b"two", within=0.3)
        link.mend()
        assert await asyncio.wait_for(streams[0].read(1000), 10) == b"two"


async def test_a_slow_link_delays_both_directions(link: Link) -> None:
    async with connected(link) as streams:
        assert await echo_of(streams, b"one") == b"one"
        link.delay = 0.2
        started_at = time.monotonic()
        assert await echo_of(streams, b"two") == b"two"
        assert time.monotonic() - started_at >= 0.4


async def test_lost_packets_arrive_late_and_in_order(link: Link) -> None:
    async with connected(link) as (reader, writer):
        assert await echo_of((reader, writer), b"one") == b"one"
        link.loss = 1.0
        started_at = time.monotonic()
        writer.write(b"two ")
        await asyncio.sleep(0.05)
        writer.write(b"three")
        assert await asyncio.wait_for(reader.readexactly(9), 20) == b"two three"
        assert time.monotonic() - started_at >= 2 * RESENT_AFTER[0]
        link.mend()
        started_at = time.monotonic()
        for _ in range(20):
            assert await echo_of((reader, writer), b"four") == b"four"
        assert time.monotonic() - started_at < 20 * 2 * RESENT_AFTER[0]


CLOCKS = "import time; print(int(time.time()), int(time.monotonic()), flush=True)"


@pytest.fixture
def ticking() -> Iterator["subprocess.Popen[str]"]:
    """A process that prints its clocks for each line of input."""
    program = f"import sys\nfor _ in sys.stdin: {CLOCKS}"
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        yield process
        process.kill()


def clock_offsets(process: "subprocess.Popen[str]") -> tuple[int, int]:
    """Return the offsets of its wall clock and its monotonic clock from ours, in minutes."""
    assert process.stdin
    assert process.stdout
    print(file=process.stdin, flush=True)
    day, monotonic = map(int, process.stdout.readline().split())
    return round((day - time.time()) / 60), round((monotonic - time.monotonic()) / 60)


def test_a_clock_is_moved_and_corrected(ticking: "subprocess.Popen[str]") -> None:
    if reason := clock.is_possible():
        pytest.skip(reason)
    assert clock_offsets(ticking) == (0, 0)
    for minutes in (60, -60, 0):
        clock.move(ticking.pid, 60 * minutes)
        assert clock_offsets(ticking) == (minutes, 0)


def test_a_filled_disk_is_full_until_freed(tmp_path: Path) -> None:
    if reason := disks.is_possible(tmp_path / "probe"):
        pytest.skip(reason)
    with disks.mounted(tmp_path / "disk", 2) as disk:
        disk.fill()
        assert os.statvfs(disk.folder).f_bavail == 0
        with pytest.raises(OSError, match="No space left"):
            (disk.folder / "more").write_bytes(bytes(5000))
        disk.free()
        (disk.folder / "more").write_bytes(bytes(5000))
    assert not (tmp_path / "disk" / "more").exists()


def test_a_seed_gives_the_same_faults_of_every_kind() -> None:
    one, same = (list(itertools.islice(planned(7, list(KINDS)), 200)) for _ in range(2))
    other = list(itertools.islice(planned(8, list(KINDS)), 200))
    assert one == same != other
    assert {fault.kind for fault in one} == KINDS.keys()
    for fault in one:
        kind = KINDS[fault.kind]
        assert kind.shortest <= fault.seconds <= kind.longest
        assert fault.target in kind.targets
