"""Pages left open over kill -9 of mediabus web, nats-server and PostgreSQL: they recover alone."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final

import pytest
from playwright.async_api import Page, expect

from mediabus.runtime.nats.bus import connect
from mediabus.runtime.postgres.database import open_pool
from mediabus.runtime.settings import Settings
from tests.support.eventually import eventually
from tests.support.servers import NatsServer
from tests.web.activity import WAIT, publish, shown
from tests.web.away import Away
from tests.web.site import chromium, page_of

pytestmark = pytest.mark.timeout(300)

STALLED: Final = """
INSERT INTO downloads (id, title, state, client, client_item, protocol)
VALUES (gen_random_uuid(), $1, 'stalled', 'home', $1, 'torrent')
"""
TITLES: Final = "[...document.querySelectorAll(`%s`)].map((it) => it.textContent.trim())"
TITLES_OF_NOW: Final = TITLES % ".download-title"
TITLES_OF_NEEDS_YOU: Final = TITLES % "#stalled + .problems h3"
LETTERS: Final = TITLES % 'a[href*="/dead-letters/"]'
FINDINGS_OF_NATS: Final = "tr:has(th:text-is('NATS'))"


@pytest.fixture
async def away(settings: Settings, nats: NatsServer, tmp_path: Path) -> AsyncIterator[Away]:
    """A running mediabus, whose servers and processes may be killed."""
    servers = Away(settings, nats, tmp_path)
    try:
        await servers.start()
        yield servers
    finally:
        servers.stop()


async def test_the_activity_shows_each_event_once_over_three_crashes(away: Away) -> None:
    """No reload, no gap, no repetition."""
    async with chromium() as browser, page_of(browser) as page:
        await _open(page, away, "activity")
        sent = await _published(away.settings, "Before")
        await _shows(page, sent)
        away.web.kill()
        sent += await _published(away.settings, "While the pages are away")
        away.web.start()
        await _shows(page, sent)
        away.nats.kill()
        await expect(page.locator("#away")).to_contain_text("NATS", timeout=WAIT)
        away.nats.start()
        sent += await _published(away.settings, "After NATS")
        await _shows(page, sent)
        away.postgres.kill()
        sent += await _published(away.settings, "Without PostgreSQL")
        await _shows(page, sent)
        away.postgres.start()
        await expect(page.locator("#away")).to_be_hidden(timeout=WAIT)
        await _is_the_same(page)
        assert await shown(page) == sent[::-1]


async def test_now_needs_you_and_health_show_the_truth_once_over_three_crashes(away: Away) -> None:
    async with (
        chromium() as browser,
        page_of(browser) as now,
        page_of(browser) as needs_you,
        page_of(browser) as health,
    ):
        pages = {"": now, "needs-you": needs_you, "health": health}
        await _leave_a_dead_letter(away.settings)
        await _stall(away.settings, "Alien")
        for path, page in pages.items():
            await _open(page, away, path)
        await _show_the_truth(now, needs_you, health, "Alien")
        away.web.kill()
        for page in pages.values():
            await expect(page.locator("#away")).to_contain_text("does not answer", timeout=WAIT)
        await _stall(away.settings, "Heat")
        away.web.start()
        await _show_the_truth(now, needs_you, health, "Alien", "Heat")
        await _over_nats(away, now, needs_you, health)
        await _over_postgresql(away, now, needs_you, health)
        for page in pages.values():
            await _is_the_same(page)


async def _over_nats(away: Away, now: Page, needs_you: Page, health: Page) -> None:
    away.nats.kill()
    await expect(now.locator("#now")).to_contain_text("NATS is unreachable", timeout=WAIT)
    await expect(now.locator(".teach")).to_have_count(0)  # whether there are clients is unknown
    unknown = "The downloads cannot be read"
    await expect(needs_you.locator("#needs-you")).to_contain_text(unknown, timeout=WAIT)
    bad = health.locator(f"{FINDINGS_OF_NATS}.bad")
    await expect(bad).to_have_count(1, timeout=WAIT)
    await _stall(away.settings, "Ran")
    away.nats.start()
    await _show_the_truth(now, needs_you, health, "Alien", "Heat", "Ran")


async def _over_postgresql(away: Away, now: Page, needs_you: Page, health: Page) -> None:
    away.postgres.kill()
    unknown = "The downloads cannot be read"
    await expect(now.locator("#now")).to_contain_text(unknown, timeout=WAIT)
    await expect(needs_you.locator("#needs-you")).to_contain_text(unknown, timeout=WAIT)
    await expect(health.locator("#health")).to_contain_text("There are no graphs", timeout=WAIT)
    away.postgres.start()
    async with open_pool(away.settings.database, size=2, patient=True) as pool:
        await pool.execute("UPDATE downloads SET state = 'cancelled' WHERE title = 'Alien'")
    await _show_the_truth(now, needs_you, health, "Heat", "Ran")


async def _show_the_truth(now: Page, needs_you: Page, health: Page, *titles: str) -> None:
    """Each page shows what is there, each thing once, and no outage."""

    async def is_shown() -> bool:
        letters: list[str] = await needs_you.evaluate(LETTERS)
        return (
            sorted(await now.evaluate(TITLES_OF_NOW)) == sorted(titles)
            and sorted(await needs_you.evaluate(TITLES_OF_NEEDS_YOU)) == sorted(titles)
            and letters == ["1"]
        )

    await eventually(is_shown, within=60)
    await expect(health.locator(f"{FINDINGS_OF_NATS}.ok")).to_have_count(1, timeout=WAIT)
    await expect(health.locator(FINDINGS_OF_NATS)).to_have_count(1)
    await expect(health.locator(".graph")).to_have_count(3, timeout=WAIT)
    for page in (now, needs_you, health):
        await expect(page.locator("#away")).to_be_hidden(timeout=WAIT)
        await expect(page.locator("main")).not_to_contain_text("cannot be read", timeout=WAIT)


async def _open(page: Page, away: Away, path: str) -> None:
    await page.goto(f"http://127.0.0.1:{away.web.port}/{path}")
    await page.evaluate("window.isTheSame = true")


async def _is_the_same(page: Page) -> None:
    """It was not loaded again."""
    assert await page.evaluate("window.isTheSame")


async def _stall(settings: Settings, title: str) -> None:
    async with open_pool(settings.database, size=2) as pool:
        await pool.execute(STALLED, title)


async def _leave_a_dead_letter(settings: Settings) -> None:
    async with connect(settings.nats, name="test", wait=20) as bus:
        await bus.js.publish("events.media.media_item.added.-", b"not an event")


async def _published(settings: Settings, title: str) -> list[str]:
    async with connect(settings.nats, name="test", wait=20) as bus:
        return await publish(bus, f"{title} 1", f"{title} 2")


async def _shows(page: Page, sent: list[str]) -> None:
    async def all_of_them() -> bool:
        return await shown(page) == sent[::-1]

    await eventually(all_of_them, within=40)
