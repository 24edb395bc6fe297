"""The pages with the key of `mediabus secure`: they need all its rights, and no other."""

import asyncio
import re
from pathlib import Path

import aiohttp
import msgspec
import pytest

from mediabus.runtime.postgres.database import open_pool
from mediabus.runtime.settings import DatabaseSettings, HttpSettings, Settings, WebSettings
from mediabus.wiring.parts import parts_of, working
from mediabus.wiring.registry import PERSIST, SERVICE, WEB
from tests.support.eventually import eventually
from tests.support.ports import free_port
from tests.support.secured import nats_errors, secured_nats

PATHS = ("", "activity", "needs-you", "health", "add", "story/media_item/x")
SAME = {"Sec-Fetch-Site": "same-origin", "Remote-User": "anna"}
ACTOR = "SELECT actor_type, actor_id, actor_verified FROM events WHERE type = 'media_item.added'"


async def test_the_key_of_the_pages_reads_everything_and_acts_for_its_users(
    tmp_path: Path, database_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    settings = Settings(
        data_dir=str(tmp_path / "data"),
        database=DatabaseSettings(url=database_url),
        http=HttpSettings(port=0),
        web=WebSettings(password="a password", trusted_proxies=["127.0.0.1"]),
    )
    pages = msgspec.structs.replace(settings, http=HttpSettings(port=free_port()))
    with secured_nats(tmp_path, ()) as server:

        def of(role: str, base: Settings = settings) -> Settings:
            return msgspec.structs.replace(base, nats=server.settings(role))

        async with (
            working(of("service"), 0, parts_of(of("service"), (SERVICE,))),
            working(of("persister"), 0, parts_of(of("persister"), (PERSIST,))),
            working(of("web", pages), 0, parts_of(of("web", pages), (WEB,))),
            open_pool(settings.database, size=1) as pool,
            aiohttp.ClientSession(headers=SAME) as session,
        ):
            url = f"http://127.0.0.1:{pages.http.port}"
            await eventually(lambda: answers(session, f"{url}/activity"), within=40)
            listening = asyncio.create_task(first_event(session, f"{url}/live?position=0"))
            movie = {"type": "movie", "title": "Dune", "year": "2021"}
            async with session.post(f"{url}/add/media", data=movie) as added:
                assert "anna" in await added.text()
            async with asyncio.timeout(30):
                assert "Dune" in await listening
            for path in PATHS:
                async with session.get(f"{url}/{path}") as reply:
                    assert reply.status in {200, 404}, path
            by = await eventually(lambda: pool.fetchrow(ACTOR), within=20)
    assert tuple(by) == ("user", "anna", False)
    assert not re.findall(r'violation for \w+ to "([^"]*)"', nats_errors(caplog))


async def answers(session: aiohttp.ClientSession, url: str) -> bool:
    try:
        async with session.get(url) as reply:
            return reply.status == 200
    except aiohttp.ClientError:
        return False


async def first_event(session: aiohttp.ClientSession, url: str) -> str:
    async with session.get(url) as stream:
        assert stream.status == 200
        async for line in stream.content:
            if line.startswith(b"data: <li"):
                return line.decode()
    raise AssertionError("the stream ended")
