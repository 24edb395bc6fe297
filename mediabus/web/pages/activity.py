"""The page Activity: every event in a sentence, newest first, and the next ones live."""

import datetime
from collections.abc import Sequence
from typing import Any, Final

from aiohttp import web

from mediabus.api.errors import NoAnswer, OperationFailed
from mediabus.schemas.events import EVENT_TYPES
from mediabus.schemas.operations.history_cursor import position_of
from mediabus.web.context import Values, Web
from mediabus.web.entries import Entry, entry_of, envelope_of, grouped
from mediabus.web.filters import SEVERITIES, Filters, InvalidFilter
from mediabus.web.reading import history_page

SHOWN: Final = 100
"""Events on a page."""

CATEGORIES: Final = sorted({event.category for event in EVENT_TYPES.values()})
TYPES: Final = {
    category: sorted(name for name, event in EVENT_TYPES.items() if event.category == category)
    for category in CATEGORIES
}
SPANS: Final = {
    "1h": "last hour",
    "1d": "last 24 hours",
    "1w": "last 7 days",
    "30d": "last 30 days",
}


async def activity(context: Web, request: web.BaseRequest) -> web.StreamResponse:
    """Show a page of events."""
    return await context.stream(request, "activity.html", _read(context, request), page="activity")


async def _read(context: Web, request: web.BaseRequest) -> Values:
    after = request.query.get("after", "")
    try:
        filters = Filters.of(request.query)
    except InvalidFilter as error:
        given = {name: request.query.get(name, "") for name in Filters.__struct_fields__}
        errors = {error.field: str(error)}
        return _values(context, after, Filters(**given), errors=errors), 400
    stored_until = await context.feed.stored_until()
    try:
        page = await history_page(context.bus, filters.request(), limit=SHOWN, after=after)
    except NoAnswer as error:
        latest = [] if after else context.feed.latest(filters)[:SHOWN]
        live = context.feed.position
        return _values(context, after, filters, latest, away=str(error), live=live), 503
    except OperationFailed as error:
        errors = {error.field or "": str(error)}
        return _values(context, after, filters, errors=errors), 400
    entries = [entry_of(envelope_of(event)) for event in page.items]
    is_live = not after and filters.is_open
    live_from = stored_until if is_live else None
    return _values(
        context,
        after,
        filters,
        entries,
        older=page.next or "",
        live=live_from,
        searched_to=_searched_to(page.next) if len(entries) < SHOWN else None,
    ), 200


def _searched_to(cursor: str | None) -> datetime.datetime | None:
    """Return how far back a search came that was not finished."""
    return position_of(cursor)[0] if cursor else None


def _values(
    context: Web,
    after: str,
    filters: Filters,
    entries: Sequence[Entry] = (),
    **values: Any,  # noqa: ANN401 - any value
) -> dict[str, Any]:
    known: dict[str, Any] = {
        "errors": {},
        "older": "",
        "live": None,
        "away": "",
        "searched_to": None,
    }
    return {
        "filters": filters,
        "groups": grouped(list(entries)),
        "categories": CATEGORIES,
        "types": TYPES,
        "severities": SEVERITIES,
        "clients": context.clients,
        "spans": SPANS,
        "is_first": not after,
        **known,
        **values,
    }
