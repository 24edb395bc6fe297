"""The documentation site, built as by `make docs` and opened in a real browser from its folder."""

from pathlib import Path

from playwright.async_api import expect

from tests.support.commands import ROOT
from tests.web.site import chromium, page_of
from website import build


async def test_the_site_is_built_searched_and_loads_nothing_from_elsewhere(tmp_path: Path) -> None:
    site = build.build(ROOT, tmp_path)
    requested: list[str] = []
    async with chromium() as browser, page_of(browser) as page:
        page.on("request", lambda request: requested.append(request.url))
        await page.goto(f"{site.as_uri()}/index.html")
        await expect(page.locator("h1")).to_contain_text("mediabus")
        await page.get_by_role("link", name="Architecture", exact=True).first.click()
        await expect(page.locator("h1")).to_contain_text("Architecture")
    outside = [url for url in requested if not url.startswith((site.as_uri(), "data:", "blob:"))]
    assert requested
    assert not outside
