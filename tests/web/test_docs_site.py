"""The documentation site, built as by `make docs`, in a real browser."""

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

from aiohttp import web
from playwright.async_api import expect

from tests.support.commands import ROOT
from tests.web.site import chromium, page_of
from website import build


@contextlib.asynccontextmanager
async def served(site: Path) -> AsyncIterator[str]:
    """Serve the folder of a site, as any web server does."""
    application = web.Application()
    application.router.add_static("/", site)
    runner = web.AppRunner(application, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


async def test_the_site_finds_its_pages_and_loads_nothing_from_elsewhere(tmp_path: Path) -> None:
    site = build.build(ROOT, tmp_path)
    requested: list[str] = []
    async with served(site) as url, chromium() as browser, page_of(browser) as page:
        page.on("request", lambda request: requested.append(request.url))
        await page.goto(f"{url}/index.html")
        await expect(page.locator("h1")).to_contain_text("mediabus")
        await page.get_by_role("button", name="Search").first.click()
        await page.keyboard.type("discovery_prefix")
        await page.locator("a[role=option][href*='docs/reference/settings.html']").first.click()
        await expect(page.locator("h1")).to_contain_text("Settings")
    outside = [sent for sent in requested if not sent.startswith((f"{url}/", "data:", "blob:"))]
    assert f"{url}/index.html" in requested
    assert not outside
