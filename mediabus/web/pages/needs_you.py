"""The page Needs you: everything that waits for a person, with what to do about it."""

import asyncio
import datetime
from collections.abc import Iterator
from typing import Any, Final

from aiohttp import web

from mediabus.api.operations import Downloads, History
from mediabus.api.request import ask
from mediabus.runtime.nats.bus import Bus
from mediabus.schemas.operations.dead_letters import DeadLetterPage
from mediabus.schemas.operations.requests import Download, DownloadState, HistoryEvent
from mediabus.web.answers import reply_or_none
from mediabus.web.context import Values, Web
from mediabus.web.notice import Notice
from mediabus.web.pages.now import client_statuses
from mediabus.web.views.attention import (
    Group,
    Problem,
    client_problems,
    download_problems,
    import_problems,
    target_problems,
)

LETTERS: Final = 50
"""Dead letters on a page."""

MOST: Final = 100
"""Downloads or events of one kind that are read."""

SINCE: Final = datetime.timedelta(days=30)
"""How far back events are read for imports and targets that still have their problem."""

EMPTY_LETTERS: Final = DeadLetterPage(items=[], total=0)


async def needs_you(context: Web, request: web.BaseRequest) -> web.StreamResponse:
    """Show what waits for a person."""
    after = request.query.get("after")

    async def read() -> Values:
        return {"notice": None, **await problems(context.bus, after)}, 200

    known = {"page": "needs-you", "is_live": after is None}
    return await context.stream(request, "needs_you.html", read(), **known)


async def show(
    context: Web,
    request: web.BaseRequest,
    *,
    notice: Notice | None = None,
    status: int = 200,
) -> web.StreamResponse:
    """Return the page, with a notice after an action."""
    after = request.query.get("after")
    return context.render(
        request,
        "needs_you.html",
        status=status,
        page="needs-you",
        notice=notice,
        is_live=after is None,
        **await problems(context.bus, after),
    )


async def problems(bus: Bus, after: str | None = None) -> dict[str, Any]:
    """Return what the list shows: the problems, a page of dead letters, and what is unknown."""
    now = datetime.datetime.now(datetime.UTC)
    reading = asyncio.gather(*(_events(bus, name, now - SINCE) for name in EVENT_TYPES))
    clients, letters, failed, stalled = await asyncio.gather(
        client_statuses(bus),
        _letters(bus, after),
        _downloads(bus, "failed"),
        _downloads(bus, "stalled"),
    )
    events = await reading
    blocked, imported, failing, recovered = (found or [] for found in events)
    groups = (
        ("clients", "Unreachable clients", client_problems(clients or ())),
        ("targets", "Failing notifications", target_problems(failing, recovered)),
        ("failed", "Failed downloads", download_problems(failed or (), now)),
        ("stalled", "Stalled downloads", download_problems(stalled or (), now)),
        ("imports", "Blocked imports", import_problems(blocked, imported)),
    )
    known = {
        "download clients": clients is not None,
        "downloads": failed is not None and stalled is not None,
        "history": None not in events,
        "dead letters": letters is not None,
    }
    unknown = [f"The {name} cannot be read at the moment." for name in known if not known[name]]
    page = letters or EMPTY_LETTERS
    return {
        "groups": list(_filled(groups)),
        "letters": page.items,
        "total_letters": page.total,
        "next_letters": page.next,
        "unknown": unknown,
    }


EVENT_TYPES: Final = (
    "download.import_blocked",
    "download.imported",
    "notification.target_failing",
    "notification.target_recovered",
)
"""Each problem and its end."""


def _filled(groups: tuple[tuple[str, str, Iterator[Problem]], ...]) -> Iterator[Group]:
    for name, title, problems in groups:
        if found := tuple(problems):
            yield Group(name, title, found)


async def _letters(bus: Bus, after: str | None) -> DeadLetterPage | None:
    wanted: dict[str, Any] = {"limit": LETTERS, **({"after": after} if after else {})}
    return await reply_or_none(ask(bus, "dead.list", wanted, DeadLetterPage))


async def _downloads(bus: Bus, state: DownloadState) -> list[Download] | None:
    page = await reply_or_none(Downloads(bus, None).list(state=state, limit=MOST))
    return page.items if page else None


async def _events(bus: Bus, event_type: str, since: datetime.datetime) -> list[HistoryEvent] | None:
    asking = History(bus, None).list(type=event_type, since=since, limit=MOST)
    page = await reply_or_none(asking)
    return page.items if page else None
