"""Serve the pages until cancelled."""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Iterator
from functools import partial
from typing import Final

import click
import msgspec
from jinja2 import Environment

from mediabus.api.request import ask
from mediabus.runtime.nats.bus import Bus
from mediabus.runtime.process.work import Work
from mediabus.schemas.subjects import STATUS_SUBJECT, filter_for
from mediabus.web.access import Access
from mediabus.web.answers import reply_or_none
from mediabus.web.config import WebConfig
from mediabus.web.context import Web
from mediabus.web.entries import Entry, Group
from mediabus.web.feed import Feed
from mediabus.web.live_region import LiveRegion, Region
from mediabus.web.outages import Outages
from mediabus.web.pages import PAGES
from mediabus.web.pages.health import Health
from mediabus.web.pages.login import Login
from mediabus.web.pages.needs_you import problems
from mediabus.web.pages.now import under_way
from mediabus.web.site import Site
from mediabus.web.static_files import StaticFiles
from mediabus.web.templating import environment
from mediabus.web.users import ADMIN, Users

log: Final = logging.getLogger("mediabus.web")

SERVICES_WITHIN: Final = 10.0
"""Seconds to wait for the services before the pages are announced. They work without them too."""

FIRST: Final = {"limit": 1}
"""A request for the first item of a list."""


async def run(work: Work[WebConfig]) -> None:
    """Serve the pages on the port of the process."""
    config = work.config
    users = await asyncio.to_thread(
        Users, config.password_file, config.password, config.users, config.session_seconds
    )
    files, templates = StaticFiles(), environment()
    templates.globals["asset"] = files.address
    access = Access(config, users)
    feed = Feed(work.bus, _entry_with(templates, config.base))
    outages = Outages(work.bus, feed)
    clients = list(config.clients)
    context = Web(work.bus, config.base, clients, work.routes, templates, feed, outages)
    login = Login(users, access, config.session_seconds)
    health = Health(work.bus, clients)
    regions = [LiveRegion(context, region).entry() for region in _regions(work.bus, health)]
    pages = (*PAGES, *login.pages(), *health.pages(), *regions)
    site = Site(context, pages, access, files)
    with work.routes.handling(f"{config.base}/", site.answer):
        log.info("serving the pages", extra={"path": f"{config.base}/"})
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(feed.run(), name="feed")
            tasks.create_task(outages.run(), name="outages")
            tasks.create_task(health.run(), name="health")
            await _announce(work, feed, _login_text(config, users.generated))
            async for newer in work.configs():
                clients[:] = newer.clients


def _regions(bus: Bus, health: Health) -> Iterator[Region]:
    """Yield what updates by itself on the pages."""
    downloads = (filter_for(category="downloads"), f"{STATUS_SUBJECT}>")
    yield Region("now", "now_list.html", partial(under_way, bus), downloads, at_least_every=5.0)
    yield Region(
        "needs-you",
        "needs_you_list.html",
        partial(problems, bus),
        downloads,
        at_most_every=3.0,
        at_least_every=5.0,
    )
    yield Region("health", "health_list.html", health.values, at_least_every=5.0)


def _entry_with(templates: Environment, base: str) -> Callable[[Entry], str]:
    """Return a function that renders an event for all pages that show it."""
    shown: Callable[[Group, str], str] = vars(templates.get_template("entry.html").module)["shown"]

    def render(entry: Entry) -> str:
        return str(shown(Group(entry, []), base))

    return render


def _login_text(config: WebConfig, password: str | None) -> str:
    """Return the lines about a generated password; empty if there is none, or no login."""
    if password is None or not config.needs_login:
        return ""
    return (
        f"The pages ask for a login. User: {ADMIN}  Password: {password}\n"
        f"It is shown only once. Remove {config.password_file} to get another one.\n"
    )


async def _announce(work: Work[WebConfig], feed: Feed, text: str) -> None:
    """Pass the text on once the pages show what the services know.

    Without anybody who waits for that, print it at once: to the terminal and not to the log, which
    others may read.
    """
    if work.announce is None:
        if text:
            click.echo(f"\n{text}", err=True)
        return
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(SERVICES_WITHIN):
            await feed.started.wait()
            for operation in ("downloads.list", "history.list"):
                await _until_answered(work.bus, operation)
    work.announce(text)


async def _until_answered(bus: Bus, operation: str) -> None:
    while await reply_or_none(ask(bus, operation, FIRST, msgspec.Raw)) is None:  # noqa: ASYNC110 - a service
        await asyncio.sleep(0.05)
