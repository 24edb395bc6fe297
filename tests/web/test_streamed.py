"""A browser shows the top of a page before the history has answered."""

import asyncio
import contextlib
import zlib
from collections.abc import AsyncIterator
from typing import Final

import aiohttp
import pytest

from mediabus.runtime.nats.bus import Bus
from mediabus.runtime.settings import Settings
from mediabus.wiring.registry import PERSIST, SERVICE
from tests.web.activity import publish, stored
from tests.web.site import Site, site

BROWSER: Final = {"Accept": "text/html,*/*"}


@contextlib.asynccontextmanager
async def unreadable(pages: Site) -> AsyncIterator[None]:
    """A question about events is not answered while the context is open."""
    async with pages.user.pool.acquire() as connection, connection.transaction():
        await connection.execute("LOCK TABLE events IN ACCESS EXCLUSIVE MODE")
        yield


@pytest.mark.parametrize("encoding", ["gzip", "identity"])
async def test_the_top_of_a_page_arrives_before_its_events(
    settings: Settings, bus: Bus, encoding: str
) -> None:
    async with site(settings, processes=(SERVICE, PERSIST)) as pages:
        sent = await publish(bus, "Dune", "Arrival")
        await stored(pages, 2)
        headers = {**BROWSER, "Accept-Encoding": encoding}
        async with aiohttp.ClientSession(auto_decompress=False, headers=headers) as http:
            async with unreadable(pages), asyncio.timeout(10):
                reply = await http.get(f"{pages.url}/activity")
                top = await reply.content.readany()
            rest = await reply.read()
        text = _decoded(top + rest, encoding)
    assert reply.status == 200
    assert reply.headers["Content-Security-Policy"]
    shown = _decoded(top, encoding)
    assert 'aria-current="page">Activity</a>' in shown
    assert shown.rstrip().endswith('<main id="main" tabindex="-1">')
    assert text.count("<!doctype html>") == text.count("</html>") == 1
    assert all(text.count(f'data-id="{event}"') == 1 for event in sent)
    assert "&lt;html" not in text


def _decoded(body: bytes, encoding: str) -> str:
    if encoding == "identity":
        return body.decode()
    return zlib.decompressobj(wbits=zlib.MAX_WBITS | 16).decompress(body).decode()


async def test_a_page_is_the_same_for_a_browser_and_a_program(settings: Settings) -> None:
    async with site(settings) as pages:
        for path in ("/", "/needs-you", "/activity"):
            async with pages.http.get(pages.url + path, headers=BROWSER) as reply:
                assert await reply.text() == await pages.html(path)


async def test_a_browser_and_a_program_see_why_a_filter_is_wrong(settings: Settings) -> None:
    async with (
        site(settings, processes=(SERVICE, PERSIST)) as pages,
        pages.http.get(f"{pages.url}/activity?since=x", headers=BROWSER) as reply,
    ):
        assert reply.status == 400
        assert "use 90s, 10m" in await reply.text()
