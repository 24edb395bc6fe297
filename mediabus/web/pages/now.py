"""The page Now: what is under way, and the state of the clients."""

import asyncio
from collections import Counter
from typing import Any, Final

from aiohttp import web
from nats.errors import Error as NatsError
from nats.js.errors import APIError, NotFoundError

from mediabus.api.operations import Downloads
from mediabus.runtime.nats.bus import Bus
from mediabus.schemas.operations.requests import Download
from mediabus.schemas.status import ClientStatus
from mediabus.service.downloads.bucket import Shown, all_entries
from mediabus.web.answers import READ_WITHIN, reply_or_none
from mediabus.web.context import Values, Web
from mediabus.web.notice import Notice
from mediabus.web.views.clients import client_view
from mediabus.web.views.downloads import UNDER_WAY, download_view

MAX_ROWS: Final = 300
"""Downloads on the page."""

CLIENT_KEYS: Final = "*"
"""The keys of clients in the bucket. Those of downloads have two tokens."""

SERVICE_AWAY: Final = (
    "The downloads cannot be read at the moment: the service or PostgreSQL does not answer. "
    "This page shows them again by itself."
)
NATS_AWAY: Final = "NATS is unreachable. This page continues by itself when it is back."


async def now(context: Web, request: web.BaseRequest) -> web.StreamResponse:
    """Show the downloads under way and the clients."""

    async def read() -> Values:
        return {"notice": None, **await under_way(context.bus)}, 200

    return await context.stream(request, "now.html", read(), page="now")


async def show(
    context: Web, request: web.BaseRequest, *, notice: Notice | None = None, status: int = 200
) -> web.StreamResponse:
    """Return the page, with a notice after an action that failed."""
    values = await under_way(context.bus)
    return context.render(request, "now.html", status=status, page="now", notice=notice, **values)


async def under_way(bus: Bus) -> dict[str, Any]:
    """Return what the list shows. ``away`` is a notice if the downloads cannot be read."""
    statuses, found = await asyncio.gather(client_statuses(bus), _downloads(bus))
    clients = statuses or []
    downloads, more = found or ((), False)
    unreachable = {status.client for status in clients if not status.reachable}
    counts = Counter(download.client for download in downloads)
    away = SERVICE_AWAY if bus.is_connected else NATS_AWAY
    return {
        "knows_clients": statuses is not None,
        "clients": [client_view(status, counts[status.client]) for status in clients],
        "downloads": [
            download_view(download, is_reachable=download.client not in unreachable)
            for download in downloads
        ],
        "more": more,
        "away": Notice("warning", away) if found is None else None,
    }


async def client_statuses(bus: Bus) -> list[ClientStatus] | None:
    """Return the clients that a monitor has reported; None while NATS is unreachable."""
    shown = Shown()
    try:
        for key, value in (await all_entries(bus, CLIENT_KEYS, within=READ_WITHIN)).items():
            shown.apply(key, value)
    except NotFoundError:  # no monitor has run yet
        return []
    except (NatsError, APIError, TimeoutError):
        return None
    return sorted(shown.clients.values(), key=lambda status: status.client)


async def _downloads(bus: Bus) -> tuple[list[Download], bool] | None:
    """Return the downloads under way, and whether there are more than are shown."""
    asking = Downloads(bus, None).list(state=list(UNDER_WAY), limit=MAX_ROWS)
    page = await reply_or_none(asking)
    if page is None:
        return None
    ordered = sorted(page.items, key=lambda download: UNDER_WAY.index(download.state))
    return ordered, page.next is not None
