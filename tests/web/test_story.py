"""The page Story of a movie, from the events of an application: in order, and as one story."""

from typing import Any, Final

from mediabus.runtime.settings import Settings
from mediabus.wiring.registry import PERSIST, SERVICE
from tests.support.apps import Radarr
from tests.support.apps.reading import so_many, stored, with_apps
from tests.support.eventually import eventually
from tests.web.site import Site, chromium, page_of, site

FIRST: Final = "a" * 40
SECOND: Final = "b" * 40

STEPS: Final = """[...document.querySelectorAll('.step')].map((step) => ({
  id: step.dataset.id,
  cause: step.parentElement.closest('.step')?.dataset.id ?? null,
  text: step.querySelector('.sentence').textContent.replace(/\\s+/g, ' ').trim(),
}))"""
"""The steps from top to bottom, each with the one that it is nested under."""

TYPES: Final = (
    "release.grabbed",
    "media_file.imported",
    "download.imported",
    "release.grabbed",
    "media_file.deleted",
    "media_file.imported",
    "download.imported",
)


async def test_story_of_an_upgraded_movie_is_in_order_under_its_first_grab(
    settings: Settings,
) -> None:
    async with Radarr.running() as radarr:
        everything = with_apps(settings, radarr)
        async with site(everything, processes=(SERVICE, PERSIST)) as pages:
            await eventually(lambda: _has_met(pages), within=30)
            await _upgrade(pages, radarr)
            rows = [row for row in await stored(pages.user) if row["correlation_id"]]
            steps = await _shown(pages, rows[0]["resource_id"])
    by_type = {str(row["id"]): row["type"] for row in rows}
    nested = [step for step in steps if step["id"] in by_type]
    assert [by_type[step["id"]] for step in nested] == list(TYPES)
    assert len({row["correlation_id"] for row in rows}) == 1
    assert [step["cause"] for step in nested] == [None, *[nested[0]["id"]] * 6]
    assert len(steps) == len({step["id"] for step in steps})
    for step, words in zip(nested, ("grabbed", "imported", "imported"), strict=False):
        assert words in step["text"].lower()
        assert "Dune" in step["text"]


async def _has_met(pages: Site) -> bool:
    return bool(await pages.user.pool.fetchval("SELECT max(read_at) FROM apps"))


async def _upgrade(pages: Site, radarr: Radarr) -> None:
    """Let the application grab and import a movie, and replace it by a better release."""
    movie = radarr.put_movie("Dune", tmdbId=438631)
    await radarr.grab(movie, FIRST.upper())
    await radarr.import_file(movie, FIRST.upper())
    await so_many(pages.user, 1, "download.imported")
    radarr.clock.advance(seconds=2)
    await radarr.grab(movie, SECOND.upper())
    await radarr.delete_file(movie, "upgrade")
    await radarr.import_file(movie, SECOND.upper(), upgrade=True)
    await so_many(pages.user, 2, "download.imported")


async def _shown(pages: Site, item: str) -> list[dict[str, Any]]:
    async with chromium() as browser, page_of(browser) as page:
        await page.goto(f"{pages.url}/story/media_item/{item}")
        assert await page.locator("h1").inner_text() == "Dune"
        steps: list[dict[str, Any]] = await page.evaluate(STEPS)
        return steps
