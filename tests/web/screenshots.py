"""Take screenshots of every page on a realistic day, light, dark and as wide as a phone.

Those called ``small`` show the top of a page, for the documentation.

    python -m tests.web.screenshots [FOLDER]

Real download clients do the downloads. The folder is ``screenshots`` by default.
"""

import asyncio
import contextlib
import sys
import tempfile
from pathlib import Path
from typing import Any, Final

from playwright.async_api import Browser

from mediabus.runtime.nats.bus import connect
from mediabus.runtime.postgres.database import open_pool
from mediabus.runtime.postgres.schema import migrate
from mediabus.runtime.settings import DatabaseSettings, HttpSettings, NatsSettings, Settings
from tests.support import torrents
from tests.support.eventually import eventually
from tests.support.servers import nats_server, postgres_server
from tests.web.day import Day, live_through, settings_of, two_clients
from tests.web.site import Site, chromium, page_of, site

PAGES: Final = {
    "now": "/",
    "activity": "/activity",
    "needs-you": "/needs-you",
    "dead-letter": "/dead-letters/1",
    "story": "/story/media_item/{item}",
    "login": "/login",
    "health": "/health",
    "add": "/add",
}
LOOKS: Final[dict[str, dict[str, Any]]] = {
    "light": {"color_scheme": "light", "viewport": {"width": 1200, "height": 800}},
    "dark": {"color_scheme": "dark", "viewport": {"width": 1200, "height": 800}},
    "small": {"color_scheme": "light", "viewport": {"width": 1000, "height": 620}},
    "phone": {"color_scheme": "light", "viewport": {"width": 390, "height": 844}},
}

STORED_SOON: Final = """
UPDATE events SET recorded_at = occurred_at + make_interval(secs => 0.002 + 0.008 * random())
"""
"""The events of the past were published now. Their lag is made that of a usual day."""

BUSY: Final = """
INSERT INTO events (id, occurred_at, recorded_at, stream_seq, category, type, severity, source,
                    data)
SELECT gen_random_uuid(), moment, moment + make_interval(secs => 0.002 + 0.02 * random() ^ 4), n,
       'system', CASE WHEN fails THEN 'job.failed' ELSE 'job.executed' END,
       CASE WHEN fails THEN 'error' ELSE 'info' END, 'day', '{"job_name": "import_lists"}'
FROM (SELECT n, now() - interval '3 minutes' - interval '57 minutes' * random() AS moment,
             random() < 0.04 AS fails
      FROM generate_series(1, $1) AS n) AS event
"""


async def main(folder: Path) -> None:
    """Make the day and take the screenshots."""
    with contextlib.ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="mediabus-day-")))
        clients = stack.enter_context(two_clients())
        settings = settings_of(_servers(stack, directory), clients)
        async with open_pool(settings.database) as pool:
            await migrate(pool)
        (directory / "swarm").mkdir()
        async with (
            torrents.swarm(directory / "swarm") as swarm,
            site(settings) as running,
            connect(settings.nats, name="day", wait=10) as bus,
            chromium() as browser,
        ):
            day = Day(running.user, bus)
            await live_through(day, swarm, clients)
            await running.user.pool.execute(STORED_SOON)
            await running.user.pool.execute(BUSY, 300)
            await eventually(lambda: _checked(running), within=60)
            await _take(browser, running, folder, item=day.films["Metropolis"])


def _servers(stack: contextlib.ExitStack, directory: Path) -> Settings:
    (directory / "nats").mkdir()
    nats = stack.enter_context(nats_server(directory / "nats"))
    postgres = stack.enter_context(postgres_server(directory / "postgres"))
    return Settings(
        data_dir=str(directory / "data"),
        nats=NatsSettings(url=nats.url),
        database=DatabaseSettings(url=postgres.url),
        http=HttpSettings(port=0),
    )


async def _checked(running: Site) -> bool:
    """Return whether the checks have noticed the outage."""
    return "finds a problem" in await running.html("/health") or "find a problem" in (
        await running.html("/health")
    )


async def _take(browser: Browser, running: Site, folder: Path, *, item: str) -> None:
    for look, options in LOOKS.items():
        for name, path in PAGES.items():
            async with page_of(browser, **options) as page:
                await page.goto(running.url + path.format(item=item))
                await page.wait_for_timeout(500)
                await page.screenshot(path=folder / f"{name}-{look}.png", full_page=look != "small")


if __name__ == "__main__":
    chosen = Path(sys.argv[1] if len(sys.argv) > 1 else "screenshots")
    chosen.mkdir(parents=True, exist_ok=True)
    asyncio.run(main(chosen))
