"""The pages work with the key that `mediabus secure` makes for them, and name the user."""

import contextlib
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import aiohttp
import msgspec
import pytest

from mediabus.runtime.postgres.database import open_pool
from mediabus.runtime.settings import DatabaseSettings, HttpSettings, Settings
from mediabus.wiring.parts import parts_of, working
from mediabus.wiring.registry import PERSIST, SERVICE, WEB
from tests.support.eventually import eventually
from tests.support.library import Library
from tests.support.ports import free_port
from tests.support.secured import SecuredNats, nats_errors, secured_nats
from tests.web.site import Site


@pytest.fixture
def secured(tmp_path: Path) -> Iterator[SecuredNats]:
    with secured_nats(tmp_path) as server:
        yield server


@contextlib.asynccontextmanager
async def pages_of(secured: SecuredNats, database_url: str, data_dir: Path) -> AsyncIterator[Site]:
    """Run the service, the persister and the pages, each with its key."""
    base = Settings(
        data_dir=str(data_dir),
        database=DatabaseSettings(url=database_url),
        http=HttpSettings(port=0),
    )
    port = free_port()
    async with contextlib.AsyncExitStack() as stack:
        for key, process in {"service": SERVICE, "persister": PERSIST, "web": WEB}.items():
            settings = msgspec.structs.replace(base, nats=secured.settings(key))
            if process is WEB:
                settings = _of_pages(settings, port)
            await stack.enter_async_context(working(settings, 0, parts_of(settings, (process,))))
        pool = await stack.enter_async_context(open_pool(base.database, size=2))
        http = await stack.enter_async_context(aiohttp.ClientSession())
        yield Site(f"http://127.0.0.1:{port}", Library(None, pool), http)


def _of_pages(settings: Settings, port: int) -> Settings:
    return msgspec.structs.replace(
        settings,
        database=DatabaseSettings(),
        http=HttpSettings(port=port),
        web=msgspec.structs.replace(settings.web, auth="none"),
    )


async def test_every_page_works_with_the_key_of_the_pages(
    secured: SecuredNats, database_url: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with pages_of(secured, database_url, tmp_path / "data") as pages:

        async def is_served() -> bool:
            with contextlib.suppress(AssertionError):  # the pages have not started yet
                return "cannot be read" not in await pages.html("/needs-you")
            return False

        await eventually(is_served, within=30)
        values = {"type": "movie", "title": "Dune", "year": "2021"}
        story = await pages.submit("/add/media", values, status=303)
        added = await pages.user.event("media_item.added", story.rpartition("/")[2])
        await pages.html("/")
        assert "Dune" in await pages.html("/activity")
        gone = await pages.submit("/dead-letters", {"number": "7", "do": "discard"}, status=409)
        assert "does not exist" in gone

        async def is_checked() -> bool:
            return "served by 1" in await pages.html("/health")

        await eventually(is_checked, within=30)
    assert (added["actor_type"], added["actor_id"]) == ("user", "admin")
    assert "permissions violation" not in nats_errors(caplog).lower()
