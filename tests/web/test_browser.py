"""The pages in a real browser: they update by themselves, by keyboard alone, and axe is content."""

import asyncio
import base64
import datetime
import itertools
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final

import msgspec
import pytest
from playwright.async_api import Page, expect

from mediabus.runtime.nats.bus import Bus
from mediabus.runtime.settings import Settings
from mediabus.schemas.events import DownloadFailed
from mediabus.schemas.identity import Actor, Resource, uuid7
from mediabus.schemas.status import ClientName, ClientStatus
from mediabus.schemas.subjects import STATUS_SUBJECT
from tests.support import daemons, torrents
from tests.support.eventually import eventually
from tests.support.library import with_clients
from tests.web.site import AXE, Site, chromium, page_of, site, violations

PAGES: Final = ("/", "/activity", "/needs-you", "/dead-letters/1", "/health", "/add", "/login")
HAS_FOCUS: Final = "(text) => document.activeElement.textContent.trim() === text"

DOWNLOAD: Final = """
INSERT INTO downloads (id, title, state, client, client_item, protocol, reason, error_message)
VALUES (gen_random_uuid(), $1, $2, 'home', $1, 'torrent', $3, 'errno 28')
"""


@pytest.fixture
async def swarm(tmp_path: Path) -> AsyncIterator[torrents.Swarm]:
    (tmp_path / "swarm").mkdir()
    async with torrents.swarm(tmp_path / "swarm") as running:
        yield running


async def paths_of(pages: Site) -> list[str]:
    """Every page, the story of an item and an event included."""
    failed = await pages.user.event("download.failed")
    event = f"/event/{failed['id']}"
    return [*PAGES, f"/story/media_item/{failed['resource_id']}", event, f"{event}?view=raw"]


async def focused(page: Page) -> str:
    return str(await page.evaluate("document.activeElement.textContent.trim()"))


async def tab_to(page: Page, text: str) -> None:
    """Press Tab until an element that contains a text has the focus."""
    for _ in range(60):
        await page.keyboard.press("Tab")
        if text in await focused(page):
            return
    pytest.fail(f"Tab does not reach {text!r}")


async def test_a_download_is_paused_by_keyboard_and_the_page_updates_by_itself(
    settings: Settings, swarm: torrents.Swarm
) -> None:
    shared = swarm.share("Sintel.2010", size=8_000_000, rate=100_000)
    with daemons.Transmission.started() as daemon:
        async with (
            site(with_clients(settings, daemon.settings())) as pages,
            chromium() as browser,
            page_of(browser) as page,
        ):
            await page.goto(pages.url)
            asked = {"title": "Sintel", "torrent": base64.b64encode(shared.content).decode()}
            download = (await pages.user.ask("downloads.initiate", asked))["id"]
            state = page.locator(".download-state")
            await expect(state).to_contain_text("Downloading", timeout=30_000)
            await tab_to(page, "Pause Sintel")
            await page.keyboard.press("Enter")
            await expect(state).to_contain_text("Paused", timeout=30_000)
            paused = await pages.user.event("download.paused", download)
            await expect(page.locator("[aria-live]")).to_contain_text(
                "Pause Sintel: done", timeout=30_000
            )
            await page.wait_for_function(HAS_FOCUS, arg="Resume Sintel")  # it was the button Pause
            await page.keyboard.press("Enter")
            await pages.user.event("download.resumed", download)
            await _ask_survives_an_update(page)
    assert (paused["actor_type"], paused["actor_id"]) == ("user", "admin")


async def _ask_survives_an_update(page: Page) -> None:
    """The open question of a button stays open and focused while the progress moves."""
    await tab_to(page, "Cancel …")
    await page.keyboard.press("Enter")
    progress = page.locator("progress")
    before = await progress.get_attribute("value")
    await expect(progress).not_to_have_attribute("value", before or "", timeout=30_000)
    assert "Cancel" in await focused(page)
    assert await page.locator("details.ask").get_attribute("open") is not None


@pytest.fixture
async def filled(settings: Settings, bus: Bus) -> AsyncIterator[Site]:
    """Pages with something on each of them."""
    async with site(settings) as pages:
        wanted = {"type": "movie", "title": "Dune", "year": 2021}
        item = (await pages.user.ask("media.create", wanted))["id"]
        added = await pages.user.event("media_item.added", item)
        await bus.publish(
            DownloadFailed(
                download_id=uuid7(),
                title="Dune.2021",
                client="home",
                reason="disk_full",
                error_message="errno 28",
            ),
            actor=Actor("system", "monitor"),
            resource=Resource("media_item", item),
            causation_id=str(added["id"]),
        )
        for title, state, reason in (("Alien", "stalled", None), ("Heat", "failed", "disk_full")):
            await pages.user.pool.execute(DOWNLOAD, title, state, reason)
        await bus.js.publish("events.media.media_item.added.-", b"not an event")
        away = ClientStatus(
            client=ClientName("nas"),
            kind="transmission",
            reachable=False,
            since=datetime.datetime.now(datetime.UTC),
            reason="connection",
            message=f"Cannot reach Transmission at http://127.0.0.1:9091/{'transmission/' * 9}",
        )
        await bus.js.publish(f"{STATUS_SUBJECT}nas", msgspec.json.encode(away))

        async def is_dead() -> bool:
            return bool((await pages.user.ask("dead.list"))["items"])

        await eventually(is_dead, within=30)
        yield pages


async def test_the_activity_is_filtered_by_keyboard(filled: Site) -> None:
    async with chromium() as browser, page_of(browser) as page:
        await page.goto(f"{filled.url}/activity")
        for _ in range(30):
            await page.keyboard.press("Tab")
            if await page.evaluate("document.activeElement.name") == "text":
                break
        await page.keyboard.type("No such film")
        await page.keyboard.press("Enter")
        await page.wait_for_url("**text=No+such+film**")
        await expect(page.locator("main")).not_to_contain_text("Dune")


async def test_an_update_of_the_list_keeps_the_focus(filled: Site) -> None:
    """Buttons, the progress and the reason come and go next to the element with the focus."""
    changes = (
        "UPDATE downloads SET state = 'initiating', error_message = NULL WHERE title = 'Alien'",
        "UPDATE downloads SET state = 'stalled', error_message = 'no peers' WHERE title = 'Alien'",
        "UPDATE downloads SET state = 'paused', error_message = NULL WHERE title = 'Alien'",
    )
    async with chromium() as browser, page_of(browser) as page:
        await page.goto(filled.url)
        row = page.locator(".download", has_text="Alien")
        await tab_to(page, "Cancel … Alien")
        for change, state in zip(changes, ("Starting", "Stalled", "Paused"), strict=True):
            await filled.user.pool.execute(change)
            await filled.user.nats.publish("events.downloads.download.x.-", b"wake")
            await expect(row).to_contain_text(state, timeout=30_000)
            assert await focused(page) == "Cancel … Alien", state


async def test_a_download_that_changes_its_state_is_always_shown_once(filled: Site) -> None:
    async def keep_changing() -> None:
        for state in itertools.cycle(("paused", "active")):
            await filled.user.pool.execute(
                "UPDATE downloads SET state = $1 WHERE title = 'Alien'", state
            )

    changing = asyncio.create_task(keep_changing())
    try:
        shown = [await filled.html("/") for _ in range(100)]
    finally:
        changing.cancel()
        await asyncio.wait([changing])
    assert changing.cancelled()  # and not failed: the state changed until the end
    assert {page.count('id="download-') for page in shown} == {1}


@pytest.mark.skipif(not AXE.exists(), reason="axe-core is not installed: run make test")
async def test_axe_finds_nothing_on_any_page_in_both_themes(filled: Site) -> None:
    async with chromium() as browser:
        for path in await paths_of(filled):
            found = await violations(browser, filled.url + path, schemes=("light", "dark"))
            assert found == [], path


async def test_every_page_fits_a_phone_without_scrolling_sideways(filled: Site) -> None:
    async def has_a_long_finding() -> bool:
        return "client nas" in await filled.html("/health")

    await eventually(has_a_long_finding, within=40)
    async with (
        chromium() as browser,
        page_of(browser, viewport={"width": 360, "height": 740}) as page,
    ):
        for path in await paths_of(filled):
            await page.goto(filled.url + path)
            width = await page.evaluate("document.documentElement.scrollWidth")
            assert width <= 360, path


async def test_a_form_is_filled_in_and_sent_without_javascript(filled: Site) -> None:
    async with chromium() as browser, page_of(browser, java_script_enabled=False) as page:
        await page.goto(f"{filled.url}/add")
        form = page.locator("section", has=page.get_by_role("heading", name="A movie or a show"))
        await form.get_by_label("Title").fill("Heat")
        await form.get_by_role("button").click()
        note = form.locator("#media-year-note")
        await expect(note).to_contain_text("needs a year")
        assert await form.get_by_label("Title").input_value() == "Heat"
        await form.get_by_label("Year").fill("1995")
        await form.get_by_role("button").click()
        await expect(page.locator("h1")).not_to_have_text("Add")
    items = (await filled.user.ask("media.list"))["items"]
    assert {item["title"] for item in items} == {"Dune", "Heat"}


async def test_open_pages_share_one_list(filled: Site) -> None:
    """Each of many open pages gets every version, and the process renders it once."""
    async with asyncio.TaskGroup() as tasks:
        first = [tasks.create_task(_first_list(filled)) for _ in range(20)]
    assert len({task.result() for task in first}) == 1
    assert "Alien" in first[0].result()


async def _first_list(pages: Site) -> str:
    async with pages.http.get(f"{pages.url}/now/live") as reply:
        assert reply.content_type == "text/event-stream"
        lines: list[str] = []
        async for line in reply.content:
            if line.startswith(b"data:"):
                lines.append(line.decode())
            elif lines:
                return "".join(lines)
    raise AssertionError("the stream ended")
