"""Publish events, and read what the page Activity shows of them."""

from typing import Final

from playwright.async_api import Page

from mediabus.runtime.nats.bus import Bus
from mediabus.schemas import events
from mediabus.schemas.events import Event
from mediabus.schemas.identity import Actor, Resource
from tests.support.eventually import eventually
from tests.web.site import Site

WAIT: Final = 30_000
"""Milliseconds."""

SHOWN: Final = "[...document.querySelectorAll('#entries [data-id]')].map((it) => it.dataset.id)"


def added(title: str, item: str = "one") -> tuple[Event, Actor, Resource]:
    event = events.MediaItemAdded(title=title, media_type="movie", year=2021, monitored=True)
    return event, Actor("user", "anna"), Resource("media_item", item)


async def publish(bus: Bus, *titles: str) -> list[str]:
    """Publish an event for each title; their ids."""
    sent = []
    for title in titles:
        event, actor, resource = added(title, item=f"item-{len(title)}-{title[:20]}")
        envelope = await bus.publish(event, actor=actor, resource=resource)
        sent.append(str(envelope.id))
    return sent


async def shown(page: Page) -> list[str]:
    """The ids on the page, from top to bottom."""
    found: list[str] = await page.evaluate(SHOWN)
    return found


async def ids_of(pages: Site, url: str) -> list[str]:
    """The events in the markup: without JavaScript, no script of a test runs either."""
    text = await pages.html(url.removeprefix(pages.url))
    return [part.partition('"')[0] for part in text.split(' data-id="')[1:]]


async def stored(pages: Site, count: int) -> None:
    async def all_of_them() -> bool:
        return len(await pages.user.events()) >= count

    await eventually(all_of_them, within=30)
