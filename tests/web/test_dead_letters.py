"""Dead letters on the page Needs you: inspected, retried, and discarded after a question."""

from collections.abc import AsyncIterator

import aiohttp
import pytest
from playwright.async_api import expect

from mediabus.runtime.nats.bus import Bus
from mediabus.runtime.settings import Settings
from tests.support.eventually import eventually
from tests.web.site import Site, chromium, page_of, site


@pytest.fixture
async def quiet(settings: Settings) -> AsyncIterator[Site]:
    """Pages without a download client."""
    async with site(settings) as running:
        yield running


async def dead(pages: Site, *numbers: int) -> bool:
    """Whether these dead letters are there, and no others."""
    listed = (await pages.user.ask("dead.list"))["items"]
    return sorted(letter["number"] for letter in listed) == list(numbers)


async def leave(pages: Site, bus: Bus, count: int) -> None:
    """Leave dead letters."""
    for number in range(count):
        await bus.js.publish("events.media.media_item.added.-", b"not an event %d" % number)
    await eventually(lambda: dead(pages, *range(1, count + 1)), within=30)


async def test_dead_letters_are_inspected_retried_and_discarded(quiet: Site, bus: Bus) -> None:
    for body in (b"not an event", b"{}", b"\xff<script>"):
        await bus.js.publish("events.media.media_item.added.-", body)

    async def are_there() -> bool:
        return (await quiet.html("/needs-you")).count('name="number"') == 3

    await eventually(are_there, within=30)
    one = await quiet.html("/dead-letters/3")
    assert r"\xff&lt;script&gt;" in one
    await quiet.html("/dead-letters/99", status=404)
    nothing = await quiet.submit("/dead-letters", {"do": "retry"}, status=400)
    assert "Select at least one" in nothing
    retried = await quiet.submit("/dead-letters", {"number": "1", "do": "retry"})
    assert "1 dead letter published again." in retried
    await eventually(lambda: dead(quiet, 2, 3, 4), within=30)  # it fails again
    form = aiohttp.FormData(
        [("shown", "2"), ("shown", "3"), ("shown", "4"), ("do", "discard-shown")]
    )
    assert "3 dead letters discarded." in await quiet.submit("/dead-letters", form)
    assert await dead(quiet)
    gone = await quiet.submit("/dead-letters", {"number": "2", "do": "discard"}, status=409)
    assert "does not exist" in gone


@pytest.mark.parametrize("scripted", [True, False])
async def test_discarding_in_bulk_asks_first(quiet: Site, bus: Bus, scripted: bool) -> None:
    await leave(quiet, bus, 3)
    async with chromium() as browser, page_of(browser, java_script_enabled=scripted) as page:
        await page.goto(f"{quiet.url}/needs-you")
        discard = page.get_by_role("button", name="Discard selected")
        for number in (1, 3):
            await page.get_by_label(f"Select dead letter {number}").check()
        await expect(discard).to_be_hidden()
        await page.get_by_text("Discard selected …").click()
        await expect(page.get_by_text("Discard the selected dead letters?")).to_be_visible()
        assert await dead(quiet, 1, 2, 3)
        await discard.click()
        await expect(page.locator(".notice.info")).to_contain_text("2 dead letters discarded.")
        assert await dead(quiet, 2)
        await page.goto(f"{quiet.url}/dead-letters/2")
        discard = page.get_by_role("button", name="Discard")
        await expect(discard).to_be_hidden()
        await page.get_by_text("Discard …").click()
        await discard.click()
        await expect(page.locator(".notice.info")).to_contain_text("1 dead letter discarded.")
        assert await dead(quiet)


async def test_a_selection_and_its_question_survive_an_update(quiet: Site, bus: Bus) -> None:
    await leave(quiet, bus, 2)
    async with chromium() as browser, page_of(browser) as page:
        await page.goto(f"{quiet.url}/needs-you")
        await page.get_by_label("Select dead letter 1").check()
        await page.get_by_text("Discard selected …").click()
        await bus.js.publish("events.media.media_item.added.-", b"another")
        await expect(page.get_by_label("Select dead letter 3")).to_be_visible(timeout=30_000)
        await expect(page.get_by_label("Select dead letter 1")).to_be_checked()
        await expect(page.get_by_label("Select dead letter 3")).not_to_be_checked()
        await page.get_by_role("button", name="Discard selected").click()
        await expect(page.locator(".notice.info")).to_contain_text("1 dead letter discarded.")
    assert await dead(quiet, 2, 3)
