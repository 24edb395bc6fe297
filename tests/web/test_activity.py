"""The page Activity in a real browser: live, filtered, resumed, and harmless."""

import csv
import datetime
import io
from typing import Final

import msgspec
import pytest
from playwright.async_api import Page, expect

from mediabus.consumers.history import query
from mediabus.runtime.nats.bus import Bus
from mediabus.runtime.settings import Settings
from mediabus.schemas import codec, events
from mediabus.schemas.envelope import Envelope
from mediabus.schemas.identity import Actor, Resource, uuid7
from mediabus.wiring.registry import SERVICE
from tests.support.eventually import eventually
from tests.web.activity import WAIT, added, ids_of, publish, shown, stored
from tests.web.site import Site, chromium, page_of, site

HOSTILE: Final = (
    "<img src=x onerror=document.title='owned'>\u202egnp.exe\x1b[31m\u2066" + "W" * 10_000
)


async def test_events_appear_live_and_wait_while_the_reader_reads(
    settings: Settings, bus: Bus
) -> None:
    async with site(settings) as pages, chromium() as browser, page_of(browser) as page:
        first = await publish(bus, *(f"Film {n}" for n in range(60)))
        await stored(pages, 60)
        await page.goto(f"{pages.url}/activity")
        assert await shown(page) == first[::-1]
        (live,) = await publish(bus, "Arrival")
        await expect(page.locator(".entry").first).to_contain_text("anna", timeout=WAIT)
        await expect(page.locator(".entry").first).to_contain_text("Arrival")
        assert (await shown(page))[0] == live
        await _scrolled_down(page, bus)
        await _paused(page, bus)
        ids = await shown(page)
        assert len(ids) == len(set(ids))


async def _scrolled_down(page: Page, bus: Bus) -> None:
    """New events wait behind a button while the reader is further down."""
    await page.mouse.wheel(0, 900)
    await page.wait_for_function("scrollY > 300")
    late = await publish(bus, "Later A", "Later B")
    bar = page.locator("#show-new")
    await expect(bar).to_have_text("2 new", timeout=WAIT)
    assert not set(late) & set(await shown(page))
    await bar.click()
    await expect(page.locator(".entry").first).to_contain_text("Later B")
    assert (await shown(page))[:2] == late[::-1]


async def _paused(page: Page, bus: Bus) -> None:
    await page.keyboard.press("p")
    await expect(page.locator("#pause")).to_have_attribute("aria-pressed", "true")
    (held,) = await publish(bus, "Held back")
    await expect(page.locator("#show-new")).to_have_text("1 new", timeout=WAIT)
    await page.keyboard.press("p")
    await expect(page.locator(".entry").first).to_contain_text("Held back")
    assert (await shown(page))[0] == held


async def test_the_same_event_again_is_counted_live_and_after_a_reload(
    settings: Settings, bus: Bus
) -> None:
    event, actor, resource = added("Dune")
    async with site(settings) as pages, chromium() as browser, page_of(browser) as page:
        await page.goto(f"{pages.url}/activity")
        await page.wait_for_selector("#pause")
        for _ in range(3):
            await bus.publish(event, actor=actor, resource=resource)
        await expect(page.locator(".times")).to_have_text("3", timeout=WAIT)
        await stored(pages, 3)
        live = await shown(page)
        await page.reload()
        await expect(page.locator(".times")).to_have_text("3")
        assert await shown(page) == live
        assert len(live) == 3


async def test_filters_pages_and_downloads_work_without_javascript(
    settings: Settings, bus: Bus
) -> None:
    async with (
        site(settings) as pages,
        chromium() as browser,
        page_of(browser, java_script_enabled=False) as page,
    ):
        published = await publish(bus, *(f"Film {n}" for n in range(120)), "=1+1")
        failed = events.JobFailed(job_name="scan", error_message="disk full")
        await bus.publish(failed, actor=Actor("job", "scan"))
        await stored(pages, 122)
        await page.goto(f"{pages.url}/activity")
        await page.select_option("select[name=severity]", "error")
        await page.get_by_role("button", name="Filter").click()
        assert "severity=error" in page.url
        assert len(await ids_of(pages, page.url)) == 1
        await page.goto(f"{pages.url}/activity?text=film+11")
        assert len(await ids_of(pages, page.url)) == 11  # 11, and 110 to 119
        seen = await _all_pages(pages, page)
        assert seen == [published[n] for n in range(120, -1, -1)]
        await _downloads(pages)


async def test_a_search_that_takes_too_long_says_how_far_it_came_and_continues(
    settings: Settings, bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(query, "SEARCH_WITHIN", 0.0)
    event, actor, resource = added("Needle")
    old = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=2.5)
    async with (
        site(settings) as pages,
        chromium() as browser,
        page_of(browser, java_script_enabled=False) as page,
    ):
        needle = Envelope.of(event, actor=actor, resource=resource)
        await bus.publish_envelope(msgspec.structs.replace(needle, time=old))
        await publish(bus, "Film")
        await stored(pages, 2)
        await page.goto(f"{pages.url}/activity?text=needle")
        further = page.get_by_role("link", name="Search further back")
        for _ in range(2):
            await expect(page.locator(".notice.info")).to_contain_text("Searched back to")
            await expect(page.locator("#empty")).to_contain_text("No event since then")
            await further.click()
        await expect(page.locator(".entry")).to_contain_text("Needle")
        await expect(further).to_have_count(0)


async def _all_pages(pages: Site, page: Page) -> list[str]:
    await page.goto(f"{pages.url}/activity?type=media_item.added")
    seen = await ids_of(pages, page.url)
    while await page.get_by_role("link", name="Older").count():
        await page.get_by_role("link", name="Older").click()
        seen += await ids_of(pages, page.url)
    return seen


async def _downloads(pages: Site) -> None:
    table = await pages.html("/activity.csv?type=media_item.added")
    rows = list(csv.DictReader(io.StringIO(table)))
    assert len(rows) == 121
    assert {row["actor"] for row in rows} == {"user:anna"}
    assert "Film 119" in rows[1]["sentence"]
    lines = (await pages.html("/activity.jsonl?text=%3D1")).splitlines()
    assert [codec.decode(line.encode()).fields()["title"] for line in lines] == ["=1+1"]


async def test_a_story_nests_what_an_event_caused(settings: Settings, bus: Bus) -> None:
    item = str(uuid7())
    resource, anna = Resource("media_item", item), Actor("user", "anna")
    async with site(settings) as pages:
        cause = await bus.publish(
            events.MediaItemAdded(title="Dune", media_type="movie", year=2021, monitored=True),
            actor=anna,
            resource=resource,
        )
        await bus.publish(
            events.MediaItemRemoved(title="Dune", media_type="movie", monitored=True),
            actor=anna,
            resource=resource,
            causation_id=str(cause.id),
        )
        await stored(pages, 2)
        story = await pages.html(f"/story/media_item/{item}")
        outer, _, inner = story.partition('<ol class="steps">')[2].partition('<ol class="steps">')
        assert outer.count('class="step ') == inner.count('class="step ') == 1
        raw = await pages.html(f"/event/{cause.id}?view=raw")
        assert "&#34;specversion&#34;: &#34;1.0&#34;" in raw
        assert "Dune" in await pages.html(f"/event/{cause.id}")
        await pages.html("/story/media_item/unknown", status=404)
        await pages.html(f"/event/{uuid7()}", status=404)
        assert "use 90s, 10m" in await pages.html("/activity?until=tomorrow", status=400)


async def test_hostile_titles_stay_text_and_their_control_characters_are_visible(
    settings: Settings, bus: Bus
) -> None:
    async with (
        site(settings) as pages,
        chromium() as browser,
        page_of(browser, viewport={"width": 360, "height": 740}) as page,
    ):
        item = str(uuid7())
        event = events.MediaItemAdded(title=HOSTILE, media_type="movie", year=2021, monitored=True)
        resource = Resource("media_item", item)
        sent = await bus.publish(event, actor=Actor("user", "<b>\u202e"), resource=resource)
        await stored(pages, 1)
        await page.goto(f"{pages.url}/activity")
        await bus.publish(event, actor=Actor("user", "live"), resource=resource)
        await expect(page.locator(".entry").first).to_contain_text("live", timeout=WAIT)
        for path in ("/activity", f"/story/media_item/{item}", f"/event/{sent.id}"):
            if path != "/activity":
                await page.goto(pages.url + path)
            assert await page.locator("main img, main b").count() == 0, path
            text = await page.inner_text("main")
            assert "\ufffd" in text
            assert not {"\u202e", "\u2066", "\x1b"} & set(text)
            assert await page.title() != "owned"
            width = await page.evaluate("document.documentElement.scrollWidth")
            assert width <= 360, path


async def test_without_the_history_the_latest_events_are_shown_and_stay_live(
    settings: Settings, bus: Bus
) -> None:
    async with site(settings, processes=(SERVICE,)) as pages:
        sent = await publish(bus, "Dune", "Arrival")

        async def both() -> bool:
            text = await pages.html("/activity", status=503)
            return all(f'data-id="{event}"' in text for event in sent)

        await eventually(both, within=30)
        text = await pages.html("/activity", status=503)
        assert "history.list" in text
        assert 'data-live="/live?"' in text
