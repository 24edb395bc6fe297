"""What waits for others, or takes long, never holds up a quick operation."""

import asyncio
import base64
import contextlib
import time
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest

from mediabus.runtime.settings import DownloadsSettings, Settings
from mediabus.wiring.registry import SERVICE
from tests.support.eventually import eventually
from tests.support.library import Library, Refused, library

QUICK = 3.0
"""Seconds; on a machine that does much else."""


class Indexer:
    """A server that never answers; where it floods, it sends `100 Continue` without end."""

    def __init__(self, *, floods: bool) -> None:
        self.floods = floods
        self.asked = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.asked += 1
        with contextlib.suppress(ConnectionError):
            while self.floods:
                writer.write(b"HTTP/1.1 100 Continue\r\n\r\n" * 1000)
                await writer.drain()
            await reader.read()
        writer.close()


@contextlib.asynccontextmanager
async def indexer(*, floods: bool) -> AsyncIterator[tuple[Indexer, str]]:
    served = Indexer(floods=floods)
    server = await asyncio.start_server(served.serve, "127.0.0.1", 0)
    try:
        yield served, f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/it"
    finally:
        server.close()


def at_home(settings: Settings) -> Settings:
    allowed = DownloadsSettings(allowed_hosts=["127.0.0.1"])
    return msgspec.structs.replace(settings, downloads=allowed)


async def outcome(user: Library, request: dict[str, Any]) -> str:
    try:
        await user.ask("downloads.initiate", {"title": "It", **request}, timeout=60)
    except Refused as refused:
        return refused.reason
    return "done"


async def slowest(user: Library, times: int) -> float:
    """The longest that quick operations take."""
    longest = 0.0
    for number in range(times):
        started = time.monotonic()
        await user.ask("media.create", {"type": "tv_show", "title": f"Show {number}"})
        await user.ask("downloads.list")
        longest = max(longest, time.monotonic() - started)
    return longest


async def test_six_hundred_hanging_urls_delay_no_other_request(settings: Settings) -> None:
    async with (
        indexer(floods=False) as (served, url),
        library(at_home(settings), (SERVICE,)) as user,
    ):
        asking = [asyncio.create_task(outcome(user, {"url": url})) for _ in range(600)]
        await eventually(lambda: served.asked >= 30, within=30)
        assert await slowest(user, 20) < QUICK
        refused = await eventually(lambda: [a for a in asking if a.done()], within=30)
        assert isinstance(refused, list)
        assert Counter(task.result() for task in refused).keys() == {"busy"}
        started = time.monotonic()
        # With no client it is refused, but not as busy: what needs no URL has places of its own.
        assert await outcome(user, {"magnet": f"magnet:?xt=urn:btih:{'0' * 40}"}) != "busy"
        assert time.monotonic() - started < QUICK
        for task in asking:
            task.cancel()
        await asyncio.wait(asking)


async def test_an_indexer_that_floods_delays_no_other_request(settings: Settings) -> None:
    async with (
        indexer(floods=True) as (served, url),
        library(at_home(settings), (SERVICE,)) as user,
    ):
        asking = [asyncio.create_task(outcome(user, {"url": url})) for _ in range(4)]
        await eventually(lambda: served.asked == 4)
        assert await slowest(user, 20) < QUICK
        for task in asking:
            task.cancel()
        await asyncio.wait(asking)


@pytest.mark.parametrize(
    "content",
    [b"l" * 2_400_000, b"d4:info" + b"l" * 2_000_000, b"d4:infod4:name" + b"d1:a" * 900_000],
)
async def test_a_file_of_millions_of_lists_delays_no_other_request(
    settings: Settings, content: bytes
) -> None:
    request = {"torrent": base64.b64encode(content).decode()}
    async with library(settings, (SERVICE,)) as user:
        asking = [asyncio.create_task(outcome(user, request)) for _ in range(8)]
        assert await slowest(user, 20) < QUICK
        assert {await task for task in asking} == {"invalid_request"}
