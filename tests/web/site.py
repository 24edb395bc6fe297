"""The pages in the test's process, with a whole mediabus behind them, and a real browser."""

import contextlib
import dataclasses
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any, Final, Literal

import aiohttp
import msgspec
from playwright.async_api import Browser, Page, async_playwright

from mediabus.runtime.settings import HttpSettings, Settings
from mediabus.wiring.parts import parts_of, working
from mediabus.wiring.registry import WEB, Process
from tests.support.eventually import eventually
from tests.support.library import ALL, Library, library
from tests.support.ports import free_port

AXE: Final = Path(__file__).parents[1] / "wire" / "node_modules" / "axe-core" / "axe.min.js"
"""Installed by `make test`, as the other packages of npm."""

CHROMIUM: Final[dict[str, Any]] = {
    "executable_path": "/usr/bin/chromium",
    "args": ["--no-sandbox", "--disable-background-networking"],
}

ColorScheme = Literal["light", "dark"]

AUDIT: Final = """async () => {
  const options = { resultTypes: ["violations"], runOnly: ["wcag2a", "wcag2aa", "wcag21a",
    "wcag21aa", "wcag22aa", "best-practice"] };
  const { violations } = await axe.run(document, options);
  return violations.map((one) => `${one.id}: ${one.nodes.map((node) => node.html).join("\\n  ")}`);
}"""


@dataclasses.dataclass(frozen=True)
class Site:
    """Where the pages are, and the library behind them."""

    url: str
    user: Library
    http: aiohttp.ClientSession

    async def html(self, path: str, *, status: int = 200, name: str = "") -> str:
        """Return a page. ``name`` is the user whom a trusted proxy names."""
        named = {"Remote-User": name} if name else {}
        async with self.http.get(self.url + path, headers=named) as reply:
            text = await reply.text()
            assert reply.status == status, text
            return text

    async def submit(self, path: str, data: Any, *, status: int = 200, name: str = "") -> str:
        """Submit a form as a browser does. Return the page, or where ``status`` 303 leads."""
        headers = {"Origin": self.url, "Sec-Fetch-Site": "same-origin"}
        headers |= {"Remote-User": name} if name else {}
        async with self.http.post(
            self.url + path, data=data, headers=headers, allow_redirects=status != 303
        ) as reply:
            text = await reply.text()
            assert reply.status == status, text
            return reply.headers.get("Location") or text


@contextlib.asynccontextmanager
async def site(
    settings: Settings, *, processes: Sequence[Process] = ALL, **web: Any
) -> AsyncIterator[Site]:
    """Run everything and the pages, by default without a login."""
    pages = msgspec.structs.replace(
        settings,
        http=HttpSettings(port=free_port()),
        web=msgspec.structs.replace(settings.web, **{"auth": "none", **web}),
    )
    url = f"http://127.0.0.1:{pages.http.port}"
    async with (
        library(settings, processes) as user,
        working(pages, 0, parts_of(pages, (WEB,))),
        aiohttp.ClientSession() as http,
    ):
        running = Site(url, user, http)
        await eventually(lambda: _answers(running), within=30)
        yield running


async def _answers(running: Site) -> bool:
    with contextlib.suppress(aiohttp.ClientError, AssertionError):
        return bool(await running.html("/static/app.css"))
    return False


@contextlib.asynccontextmanager
async def chromium() -> AsyncIterator[Browser]:
    """Run Chromium without a window."""
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(**CHROMIUM)
        yield browser
        await browser.close()


@contextlib.asynccontextmanager
async def page_of(browser: Browser, **options: Any) -> AsyncIterator[Page]:
    """Open a page in a context of its own. It fails if a script of the page fails."""
    context = await browser.new_context(**options)
    page = await context.new_page()
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    yield page
    await context.close()
    assert not errors, errors


async def violations(browser: Browser, url: str, *, schemes: Sequence[ColorScheme]) -> list[str]:
    """Return what axe-core finds on a page, in each color scheme."""
    found: list[str] = []
    async with page_of(browser, bypass_csp=True) as page:
        await page.goto(url)
        await page.add_script_tag(path=AXE)
        for scheme in schemes:
            await page.emulate_media(color_scheme=scheme)
            found += [f"{scheme}: {violation}" for violation in await page.evaluate(AUDIT)]
    return found
