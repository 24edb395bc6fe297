"""Now, Needs you, Health and Add with data, in plain HTML: all of it works without JavaScript."""

import base64
import html
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final

import aiohttp
import pytest

from mediabus.runtime.nats.bus import Bus
from mediabus.runtime.settings import Settings
from mediabus.schemas.events import NotificationTargetFailing
from mediabus.schemas.identity import Actor, Resource, uuid7
from tests.support import daemons, torrents
from tests.support.eventually import eventually
from tests.support.library import with_clients
from tests.web.site import Site, chromium, page_of, site
from tests.web.test_dead_letters import dead

HOSTILE: Final = "<img src=x onerror=alert(1)>\u202e\x1b[31m" + "a" * 9000
ADMIN: Final = ("user", "admin")

DOWNLOAD: Final = """
INSERT INTO downloads (id, title, state, client, client_item, protocol, reason, error_message)
VALUES ($1::uuid, $2, $3, 'home', $1::uuid::text, 'torrent', $4, $5)
"""


@pytest.fixture
async def swarm(tmp_path: Path) -> AsyncIterator[torrents.Swarm]:
    (tmp_path / "swarm").mkdir()
    async with torrents.swarm(tmp_path / "swarm") as running:
        yield running


@pytest.fixture
async def quiet(settings: Settings) -> AsyncIterator[Site]:
    """Pages without a download client."""
    async with site(settings) as running:
        yield running


async def add_row(pages: Site, title: str, state: str, reason: str | None = None) -> str:
    row = uuid7()
    await pages.user.pool.execute(DOWNLOAD, row, title, state, reason, reason and "errno 28")
    return str(row)


async def test_a_download_is_paused_and_cancelled_in_the_page_without_javascript(
    settings: Settings, swarm: torrents.Swarm
) -> None:
    shared = swarm.share("Sintel.2010", size=8_000_000, rate=100_000)
    with daemons.Transmission.started() as daemon:
        async with (
            site(with_clients(settings, daemon.settings())) as pages,
            chromium() as browser,
            page_of(browser, java_script_enabled=False) as page,
        ):
            torrent = base64.b64encode(shared.content).decode()
            asked = {"title": "Sintel <2010>", "torrent": torrent}
            download = (await pages.user.ask("downloads.initiate", asked))["id"]
            await page.goto(pages.url)
            assert "Transmission" in await page.locator(".client-name").inner_text()
            await page.get_by_role("button", name="Pause Sintel <2010>").click()
            paused = await pages.user.event("download.paused", download)
            state = await page.locator(".download-state").inner_text()
            assert state.strip() == "Paused in Transmission"
            await page.get_by_role("button", name="Resume Sintel <2010>").click()
            await pages.user.event("download.resumed", download)
            await page.get_by_text("Cancel …").click()
            await page.get_by_role("button", name="Remove and delete files").click()
            cancelled = await pages.user.event("download.cancelled", download)
            await page.get_by_text("Nothing is being downloaded").wait_for()
        assert not list(daemon.downloads.glob("Sintel*"))
    assert (paused["actor_type"], paused["actor_id"]) == ADMIN
    assert (cancelled["actor_type"], cancelled["actor_id"]) == ADMIN
    assert cancelled["data"]["files_deleted"] is True


async def test_an_action_that_fails_shows_why_on_the_same_page(quiet: Site) -> None:
    row = await add_row(quiet, "Dune", "stalled")
    page = await quiet.submit(f"/downloads/{row}/pause", {"page": "now"}, status=502)
    assert "home" in page
    assert 'class="notice error"' in page
    unknown = await quiet.submit(f"/downloads/{uuid7()}/resume", {"page": "needs-you"}, status=404)
    assert "<h1>Needs you</h1>" in unknown
    assert "no download" in unknown
    await quiet.submit(f"/downloads/{row}/explode", {}, status=404)
    await quiet.submit("/downloads/../pause", {}, status=404)


async def test_empty_pages_teach_what_to_do(quiet: Site) -> None:
    assert "[[clients]]" in await quiet.html("/")
    assert "Nothing needs you" in await quiet.html("/needs-you")


async def test_needs_you_shows_each_problem_with_what_to_do(quiet: Site, bus: Bus) -> None:
    await add_row(quiet, HOSTILE, "failed", "disk_full")
    await add_row(quiet, "Alien", "stalled")
    await quiet.user.ask("media.create", {"type": "movie", "title": "Dune", "year": 2021})
    failing = NotificationTargetFailing(target="phone", failures=3, error_message="410 Gone")
    resource = Resource("target", "phone")
    await bus.publish(failing, actor=Actor("system", "notifier"), resource=resource)

    async def is_listed() -> bool:
        return "410 Gone" in await quiet.html("/needs-you")

    await eventually(is_listed, within=30)
    page = await quiet.html("/needs-you")
    assert "&lt;img src=x onerror=alert(1)&gt;\ufffd\ufffd[31maaa" in page
    assert "<img src=x" not in page
    assert len(page) < 30_000
    shown = html.unescape(page)
    assert "the disk is full: errno 28" in shown
    assert "Free space on the disk of the client" in shown
    assert "Wait for sources" in shown
    assert "[[notify]]" in shown


async def test_health_shows_the_checks_and_the_last_hour(quiet: Site) -> None:
    await quiet.user.ask("media.create", {"type": "movie", "title": "Dune", "year": 2021})

    async def is_complete() -> bool:
        page = await quiet.html("/health")
        return "persister" in page and "<rect" in page

    await eventually(is_complete, within=30)
    page = await quiet.html("/health")
    assert "Events a minute" in page
    assert "Lag until stored" in page
    assert "served by 1, version" in page


async def test_a_movie_is_added_in_the_name_of_the_user(quiet: Site) -> None:
    values = {"type": "movie", "title": " Dune ", "year": "2021", "tmdb_id": ""}
    story = await quiet.submit("/add/media", values, status=303)
    [item] = (await quiet.user.ask("media.list"))["items"]
    assert (item["title"], item["year"]) == ("Dune", 2021)
    added = await quiet.user.event("media_item.added", item["id"])
    assert (added["actor_type"], added["actor_id"]) == ADMIN
    assert story == f"/story/media_item/{item['id']}"


async def test_the_user_whom_a_proxy_names_is_the_actor(settings: Settings) -> None:
    async with site(settings, auth="password", trusted_proxies=["127.0.0.1"]) as pages:
        values = {"type": "tv_show", "title": "Dune"}
        await pages.submit("/add/media", values, status=303, name="anna")
        [item] = (await pages.user.ask("media.list"))["items"]
        added = await pages.user.event("media_item.added", item["id"])
    assert (added["actor_type"], added["actor_id"]) == ("user", "anna")


async def test_a_viewer_has_no_buttons_and_may_change_nothing(settings: Settings, bus: Bus) -> None:
    viewer: dict[str, Any] = {
        "auth": "password",
        "trusted_proxies": ["127.0.0.1"],
        "proxy_role": "viewer",
    }
    await bus.js.publish("events.media.media_item.added.-", b"not an event")
    async with site(settings, **viewer) as pages:
        row = await add_row(pages, "Dune", "stalled")
        await eventually(lambda: dead(pages, 1), within=30)
        for path in ("/", "/needs-you", "/dead-letters/1", "/health", "/add"):
            page = await pages.html(path, name="kid")
            forms = page.replace('action="/logout"', "").count("<form method")
            assert forms == page.count('action="/logout"'), path
            assert "<button" not in page.partition("<main")[2], path
        for path in (f"/downloads/{row}/cancel", "/dead-letters", "/add/media", "/add/download"):
            refused = await pages.submit(
                path, {"number": "1", "do": "discard"}, status=403, name="kid"
            )
            assert "kid may look" in refused
        assert await dead(pages, 1)
        await pages.submit("/dead-letters", {"number": "1", "do": "discard"}, status=401)


MAGNET: Final = "magnet:?xt=urn:btih:" + "a" * 40
WRONG: Final[tuple[tuple[str, dict[str, str], str, str], ...]] = (
    ("/add/media", {"type": "movie", "title": "Dune"}, "media-year", "needs a year"),
    ("/add/media", {"type": "movie", "title": " "}, "media-title", "Enter a title"),
    ("/add/media", {"title": "Dune", "year": "x"}, "media-year", "Enter a number"),
    ("/add/media", {"title": "Dune", "year": "1"}, "media-year", "1801"),
    ("/add/download", {}, "download-link", "Give a magnet link"),
    ("/add/download", {"link": "ftp://x"}, "download-link", "starts with magnet"),
    ("/add/download", {"title": "x", "link": MAGNET, "client": "y"}, "download-client", "y"),
)


async def test_an_error_stands_next_to_its_field(quiet: Site) -> None:
    for path, values, field, message in WRONG:
        page = html.unescape(await quiet.submit(path, values, status=400))
        note = page.partition(f'id="{field}-note">')[2].partition("</p>")[0]
        assert message in note, (values, note)
        assert "aria-invalid" in page
        assert values.get("title", "") in page  # what was entered is kept


async def test_a_file_that_is_no_download_is_refused_at_its_field(quiet: Site) -> None:
    form = aiohttp.FormData({"title": "x"})
    form.add_field("file", b"GIF89a", filename="a.torrent")
    page = await quiet.submit("/add/download", form, status=400)
    assert 'id="download-file-note">This is neither' in page
