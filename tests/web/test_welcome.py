"""What `mediabus up` prints is true when it prints it."""

import asyncio
import tempfile
import urllib.parse
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Final

import aiohttp
import pytest

from tests.support import commands
from tests.support.ports import free_port

SAME: Final = {"Sec-Fetch-Site": "same-origin", "Accept": "text/html"}


@pytest.fixture
def home() -> Iterator[Path]:
    """A directory that PostgreSQL, as another user, may reach."""
    with tempfile.TemporaryDirectory(prefix="mediabus-welcome-") as folder:
        yield Path(folder).resolve()


@pytest.fixture
async def welcome(home: Path) -> AsyncIterator[list[str]]:
    """The lines that `mediabus up` prints, up to the address of NATS. It runs on."""
    process = await commands.start(
        "--data-dir", str(home / "data"), "up", MEDIABUS_HTTP_PORT=str(free_port())
    )
    assert process.stderr
    lines: list[str] = []
    try:
        async with asyncio.timeout(60):
            while not lines or not lines[-1].startswith("NATS: "):
                lines.append((await process.stderr.readline()).decode())
                assert lines[-1], f"up has ended: {lines}"
        yield lines
    finally:
        process.terminate()
        await asyncio.wait_for(process.communicate(), 30)


async def test_the_pages_answer_when_the_welcome_names_them_and_the_password(
    welcome: list[str],
) -> None:
    at = next(number for number, line in enumerate(welcome) if "mediabus is up." in line)
    url = welcome[at].partition("Open ")[2].split()[0]
    password = welcome[at + 1].partition("Password: ")[2].split()[0]
    assert not any("Password: " in line for line in welcome[:at])
    async with aiohttp.ClientSession(
        cookie_jar=aiohttp.CookieJar(unsafe=True), headers=SAME
    ) as browser:
        form = {"name": "admin", "password": password}
        login = urllib.parse.urljoin(url, "login")
        async with browser.post(login, data=form, allow_redirects=False) as reply:
            assert reply.status == 303
        for path in ("", "activity", "needs-you", "health"):
            async with browser.get(urllib.parse.urljoin(url, path)) as reply:
                page = await reply.text()
            assert reply.status == 200, (path, page)
            assert "cannot be read" not in page, path
            assert "does not answer" not in page, path
