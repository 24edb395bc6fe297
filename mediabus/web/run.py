"""Serve the pages until cancelled."""

import asyncio
import logging
from collections.abc import Callable
from typing import Final

import click
from jinja2 import Environment

from mediabus.runtime.process.work import Work
from mediabus.web.access import Access
from mediabus.web.config import WebConfig
from mediabus.web.context import Web
from mediabus.web.entries import Entry, Group
from mediabus.web.feed import Feed
from mediabus.web.live_list import LiveList
from mediabus.web.outages import Outages
from mediabus.web.pages import PAGES
from mediabus.web.pages.health import Health
from mediabus.web.pages.login import Login
from mediabus.web.site import Site
from mediabus.web.static_files import StaticFiles
from mediabus.web.templating import environment
from mediabus.web.users import ADMIN, Users

log: Final = logging.getLogger("mediabus.web")


async def run(work: Work[WebConfig]) -> None:
    """Serve the pages on the port of the process."""
    config = work.config
    users = await asyncio.to_thread(
        Users, config.password_file, config.password, config.users, config.session_seconds
    )
    if users.generated and config.needs_login:
        _show_password(config, users.generated)
    files, templates = StaticFiles(), environment()
    templates.globals["asset"] = files.address
    access = Access(config, users)
    feed = Feed(work.bus, _entry_with(templates, config.base))
    outages = Outages(work.bus, feed)
    context = Web(work.bus, config.base, config.clients, work.routes, templates, feed, outages)
    login = Login(users, access, config.session_seconds)
    health, live_list = Health(work.bus, config.clients), LiveList(context)
    pages = (*PAGES, *login.pages(), *health.pages(), *live_list.pages())
    site = Site(context, pages, access, files)
    with work.routes.handling(f"{config.base}/", site.answer):
        log.info("serving the pages", extra={"path": f"{config.base}/"})
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(feed.run(), name="feed")
            tasks.create_task(outages.run(), name="outages")
            tasks.create_task(health.run(), name="health")


def _entry_with(templates: Environment, base: str) -> Callable[[Entry], str]:
    """Return a function that renders an event for all pages that show it."""
    shown: Callable[[Group, str], str] = vars(templates.get_template("entry.html").module)["shown"]

    def render(entry: Entry) -> str:
        return str(shown(Group(entry, []), base))

    return render


def _show_password(config: WebConfig, password: str) -> None:
    """Print the password, to the terminal and not to the log, which others may read."""
    click.echo(
        f"\nThe pages ask for a login. User: {ADMIN}  Password: {password}\n"
        f"It is shown only once. Remove {config.password_file} to get another one.\n",
        err=True,
    )
