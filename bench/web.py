"""How fast the pages are with many events, what they weigh, and what open pages cost.

    python -m bench.web [--events 1000000] [--open 200]

The server time of a page is measured by requests over loopback, one after the other. The weight is
that of a first visit, gzipped: the page, its styles and its scripts. Each open page follows the
events, 10 of which are published a second. The time to the screen ends when the sentence of an
event is in the document of a real Chromium.
"""

import argparse
import asyncio
import contextlib
import datetime
import functools
import html
import re
import statistics
import time
from collections.abc import AsyncIterator
from typing import Any, Final

import aiohttp
import psutil
import uvloop
from playwright.async_api import Page, async_playwright
from rich.console import Console

from bench.__main__ import keep
from bench.aims import WEB
from bench.history_rows import fill, that_fit
from bench.report import Section, header, show
from bench.servers import Failed, Stack, answers, event, mediabus, process, stack, until
from mediabus.schemas import codec
from mediabus.schemas.envelope import Envelope
from mediabus.schemas.events import MediaItemAdded
from mediabus.schemas.identity import Actor, Resource, uuid7
from mediabus.schemas.subjects import subject_of
from mediabus.service.outbox.publish import Outgoing, publish_all
from tests.support.ports import free_port

PAGES: Final = ("/", "/activity", "/activity?severity=error", "/needs-you", "/health", "/add")
VISITS: Final = 200
EVENTS_A_SECOND: Final = 10
WATCHED: Final = 20.0
"""Seconds for which the open pages are measured."""

PROBES: Final = 100
"""Events whose way to the screen is measured."""

MEGABYTE: Final = 1e6

CHROMIUM: Final[dict[str, Any]] = {
    "executable_path": "/usr/bin/chromium",
    "args": ["--no-sandbox", "--disable-background-networking"],
}

OBSERVE: Final = """() => {
  window.seen = {};
  new MutationObserver(() => {
    for (const [probe] of document.body.textContent.matchAll(/probe-[0-9]+-end/g)) {
      window.seen[probe] ??= Date.now();
    }
  }).observe(document.body, { childList: true, subtree: true, characterData: true });
}"""
"""Notes when the sentence of each probe is first in the document."""


async def measure(events: int, most_open: int) -> Section:
    """Measure the pages with ``events`` stored events."""
    section = Section(WEB)
    async with stack() as it:
        events = that_fit(section, events, it.data_dir)
        await fill(it.pool, events, datetime.datetime.now(datetime.UTC))
        section.note(f"{events:,} events are stored; {VISITS} visits of each page.")
        async with _served(it) as (url, pid):
            await _server_times(section, url, psutil.Process(pid))
            await _weights(section, url)
            await _open_pages(section, it, url, pid, most_open)
            await _to_screen(section, it, url)
    return section


@contextlib.asynccontextmanager
async def _served(it: Stack) -> AsyncIterator[tuple[str, int]]:
    """Run the service, the persister and the page, each in a process. Yield URL and process id."""
    port = free_port()
    of_page = {**it.environment, "MEDIABUS_HTTP_PORT": str(port), "MEDIABUS_WEB_AUTH": "none"}
    async with (
        process(*mediabus("service"), environment=it.environment),
        process(*mediabus("persist"), environment=it.environment),
        process(*mediabus("web"), environment=of_page) as page,
    ):
        for operation in ("downloads.list", "history.list", "dead.list"):
            await until(functools.partial(answers, it.bus, operation))
        url = f"http://127.0.0.1:{port}"
        await until(lambda: _is_ready(url))
        yield url, page.pid


async def _is_ready(url: str) -> bool:
    with contextlib.suppress(aiohttp.ClientError):
        async with aiohttp.ClientSession() as http, http.get(f"{url}/health") as reply:
            return reply.status == 200
    return False


async def _server_times(section: Section, url: str, process: psutil.Process) -> None:
    every: list[float] = []
    async with aiohttp.ClientSession() as http:
        for path in PAGES:
            cpu = _cpu_of(process)
            took = [await _visit(http, f"{url}{path}") for _ in range(VISITS)]
            every += took
            section.add(f"{path}: server time, p50", "ms", statistics.median(took))
            section.add(f"{path}: server time, p95", "ms", _percentile(took, 95))
            used = (_cpu_of(process) - cpu) / VISITS
            section.add(f"{path}: CPU of the process", "ms", 1000 * used)
    section.add("any page: server time, p95", "ms", _percentile(every, 95))


async def _visit(http: aiohttp.ClientSession, url: str) -> float:
    started = time.perf_counter()
    async with http.get(url) as reply:
        await reply.read()
        reply.raise_for_status()
    return (time.perf_counter() - started) * 1000


async def _weights(section: Section, url: str) -> None:
    """Add the bytes that a first visit of each page transfers."""
    heaviest = 0.0
    async with aiohttp.ClientSession(auto_decompress=False) as plain:
        for path in PAGES:
            sizes = [await _bytes(plain, f"{url}{path}")]
            async with aiohttp.ClientSession() as http, http.get(f"{url}{path}") as reply:
                assets = re.findall(r'(?:href|src)="(/static/[^"]+)"', await reply.text())
            sizes += [await _bytes(plain, f"{url}{asset}") for asset in sorted(set(assets))]
            heaviest = max(heaviest, sum(sizes) / 1000)
            section.add(f"{path}: weight, gzipped", "kB", sum(sizes) / 1000)
    section.add("any page: weight, gzipped", "kB", heaviest)


async def _bytes(http: aiohttp.ClientSession, url: str) -> int:
    async with http.get(url, headers={"Accept-Encoding": "gzip"}) as reply:
        return len(await reply.read())


async def _open_pages(section: Section, it: Stack, url: str, pid: int, count: int) -> None:
    """Add what many open pages cost the process, each of which follows all events."""
    page = psutil.Process(pid)
    before = page.memory_info().rss
    async with (
        aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0), timeout=aiohttp.ClientTimeout(total=None)
        ) as http,
        asyncio.TaskGroup() as tasks,
    ):
        live = f"{url}{await _live_address(http, url)}"
        readers = [tasks.create_task(_follow(http, live)) for _ in range(count)]
        await asyncio.sleep(2)
        cpu = _cpu_of(page)
        await _publish_steadily(it, WATCHED)
        used = (_cpu_of(page) - cpu) / WATCHED
        memory = page.memory_info().rss - before
        for reader in readers:
            reader.cancel()
    section.add(f"{count} open pages, {EVENTS_A_SECOND} events/s: CPU", "% of a core", 100 * used)
    section.add("an open page: memory", "MB", max(0, memory) / count / MEGABYTE)


async def _live_address(http: aiohttp.ClientSession, url: str) -> str:
    """Return what the script of the page Activity follows."""
    async with http.get(f"{url}/activity") as reply:
        found = re.search(r'data-live="([^"]+)" data-position="([0-9]+)"', await reply.text())
    if found is None:
        raise Failed("the page Activity names no stream of events")
    return f"{html.unescape(found[1])}&position={found[2]}"


async def _follow(http: aiohttp.ClientSession, url: str) -> None:
    async with http.get(url, headers={"Accept": "text/event-stream"}) as reply:
        reply.raise_for_status()
        async for _ in reply.content.iter_any():
            pass


async def _publish_steadily(it: Stack, seconds: float) -> None:
    for _ in range(int(seconds * EVENTS_A_SECOND)):
        await publish_all(it.bus, [event()])
        await asyncio.sleep(1 / EVENTS_A_SECOND)


def _cpu_of(one: psutil.Process) -> float:
    times = one.cpu_times()
    return float(times.user + times.system)


async def _to_screen(section: Section, it: Stack, url: str) -> None:
    """Add the time from publishing an event to its sentence in a browser, and to first paint."""
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(**CHROMIUM)
        page = await browser.new_page()
        await page.add_init_script(NOTE_EVENTS)
        await page.goto(f"{url}/activity")  # the first visit also starts the browser's processes
        paints = [await _reload(page) for _ in range(RELOADS)]
        section.add("/activity: first paint", "ms", statistics.median(it[0] for it in paints))
        section.add("/activity: events painted", "ms", statistics.median(it[1] for it in paints))
        await page.evaluate(OBSERVE)
        took = await _probe(it, page)
        await browser.close()
    section.add("event to screen, p50", "ms", statistics.median(took))
    section.add("event to screen, p99", "ms", _percentile(took, 99))


RELOADS: Final = 11

NOTE_EVENTS: Final = """new MutationObserver((_, observer) => {
  if (!document.querySelector("#entries > li")) return;
  observer.disconnect();
  requestAnimationFrame(() => setTimeout(() => { window.painted = performance.now(); }));
}).observe(document, { childList: true, subtree: true });
"""
"""Notes when the first event of a page is painted."""

PAINTS: Final = """() => {
  const [first] = performance.getEntriesByName("first-contentful-paint");
  return first && window.painted && [first.startTime, window.painted];
}"""
"""When the first text of a page was painted, and the first event; in milliseconds."""


async def _reload(page: Page) -> tuple[float, float]:
    await page.reload()
    painted = await page.wait_for_function(PAINTS)
    first, events = await painted.json_value()
    return first, events


async def _probe(it: Stack, page: Page) -> list[float]:
    sent: dict[str, float] = {}
    for number in range(PROBES):
        name = f"probe-{number}-end"
        sent[name] = time.time() * 1000
        await publish_all(it.bus, [_probe_event(name)])
        await asyncio.sleep(0.1)
    async with asyncio.timeout(30):
        while len(seen := await page.evaluate("window.seen")) < PROBES:  # noqa: ASYNC110 - a browser
            await asyncio.sleep(0.1)
    return [seen[name] - at for name, at in sent.items()]


def _probe_event(title: str) -> Outgoing:
    item = Resource("media_item", str(uuid7()))
    added = MediaItemAdded(title=title, media_type="movie", monitored=True, year=2021)
    envelope = Envelope.of(added, actor=Actor("user", "42"), resource=item)
    return Outgoing(envelope.id, subject_of(envelope), codec.encode(envelope))


def _percentile(values: list[float], percent: int) -> float:
    return statistics.quantiles(values, n=100)[percent - 1]


def main() -> None:
    """Measure, show and keep the figures."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.web", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("--events", type=int, default=1_000_000, help="stored events")
    parser.add_argument("--open", type=int, default=200, help="open pages")
    arguments = parser.parse_args()
    console = Console(width=120)
    head = header(quick=False)
    section = uvloop.run(measure(arguments.events, arguments.open))
    show(console, section)
    keep(head, [section], name="web.json")


if __name__ == "__main__":
    main()
