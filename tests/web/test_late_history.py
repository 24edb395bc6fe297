"""A page that is opened while events wait to be stored: no gap, and nothing twice."""

import contextlib
from collections.abc import AsyncIterator

import pytest
from playwright.async_api import Error as PlaywrightError
from playwright.async_api import expect

from mediabus.runtime.nats.bus import Bus
from mediabus.runtime.settings import Settings
from mediabus.schemas import codec
from mediabus.schemas.envelope import Envelope
from mediabus.schemas.subjects import subject_of
from mediabus.service.outbox.publish import Outgoing, publish_all
from mediabus.web import feed
from mediabus.wiring.registry import PERSIST, SERVICE
from tests.support.eventually import eventually
from tests.web.activity import WAIT, added, ids_of, publish, shown, stored
from tests.web.site import Site, chromium, page_of, site

LATE = 1300
"""Events that are not stored yet: more than the pages keep in memory."""

ON_PAGE = 500


async def publish_many(bus: Bus, titles: list[str]) -> list[str]:
    """Publish an event for each title at once; their ids."""
    sent = []
    for number, title in enumerate(titles):
        event, actor, resource = added(title, item=f"late-{number}")
        sent.append(Envelope.of(event, actor=actor, resource=resource))
    await publish_all(bus, [Outgoing(it.id, subject_of(it), codec.encode(it)) for it in sent])
    return [str(envelope.id) for envelope in sent]


@contextlib.asynccontextmanager
async def late(pages: Site) -> AsyncIterator[None]:
    """The table can be read, and nothing can be stored."""
    async with pages.user.pool.acquire() as connection, connection.transaction():
        await connection.execute("LOCK TABLE events IN SHARE MODE")
        yield


async def test_a_page_opened_while_the_history_is_late_has_no_gap(
    settings: Settings, bus: Bus
) -> None:
    async with (
        site(settings, processes=(SERVICE, PERSIST)) as pages,
        chromium() as browser,
        page_of(browser) as page,
        page_of(browser) as found,
    ):
        sent = await publish(bus, *(f"Needle {n}" if n == 60 else f"Film {n}" for n in range(120)))
        await stored(pages, 120)
        async with late(pages):
            titles = [f"Late {number}" for number in range(LATE)]
            for number in (40, 700, 1290):
                titles[number] = f"Needle {number}"
            sent += await publish_many(bus, titles)
            needles = [sent[number] for number in (60, 120 + 40, 120 + 700, 120 + 1290)]
            await page.goto(f"{pages.url}/activity")
            await found.goto(f"{pages.url}/activity?text=needle")

            async def has_no_gap() -> bool:
                return await shown(page) == sent[: -ON_PAGE - 1 : -1]

            async def has_all() -> bool:
                return await shown(found) == needles[::-1]

            await eventually(has_no_gap, within=30)
            await eventually(has_all, within=30)
        await stored(pages, 120 + LATE)
        sent += await publish(bus, "After")
        await expect(page.locator(".entry").first).to_contain_text("After", timeout=WAIT)
        assert await shown(page) == sent[: -ON_PAGE - 1 : -1]
        assert await shown(found) == needles[::-1]
        older = await page.locator("#older").get_attribute("href") or ""
        assert await ids_of(pages, older) == sent[-ON_PAGE - 1 : -ON_PAGE - 101 : -1]


async def test_a_filtered_page_that_is_too_far_behind_loads_again_when_events_are_stored(
    settings: Settings, bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feed, "MOST_BEHIND", 600)
    async with (
        site(settings, processes=(SERVICE, PERSIST)) as pages,
        chromium() as browser,
        page_of(browser) as page,
    ):
        await publish(bus, "Film")
        await stored(pages, 1)
        async with late(pages):
            sent = await publish_many(bus, ["Needle", *(f"Late {n}" for n in range(LATE))])
            await page.goto(f"{pages.url}/activity?text=needle")
            await expect(page.locator("#away")).to_contain_text("far behind", timeout=WAIT)
            assert await shown(page) == []

        async def has_it() -> bool:
            with contextlib.suppress(PlaywrightError):  # while the page is loaded again
                return await shown(page) == [sent[0]]
            return False

        await eventually(has_it, within=40)
        await expect(page.locator("#away")).to_be_hidden(timeout=WAIT)
