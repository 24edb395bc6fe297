"""The page Activity: every event in a sentence, newest first, and the next ones live."""

from typing import Any, Final

from aiohttp import web

from mediabus.api.errors import NoAnswer, OperationFailed
from mediabus.schemas.events import EVENT_TYPES
from mediabus.web.context import Web
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
    after = request.query.get("after", "")
    try:
        filters = Filters.of(request.query)
    except InvalidFilter as error:
        given = {name: request.query.get(name, "") for name in Filters.__struct_fields__}
        errors = {error.field: str(error)}
        return _page(context, request, Filters(**given), errors=errors, status=400)
    stored_until = await context.feed.stored_until()
    try:
        page = await history_page(context.bus, filters.request(), limit=SHOWN, after=after)
    except NoAnswer as error:
        latest = [] if after else context.feed.latest(filters)[:SHOWN]
        return _page(
            context,
            request,
            filters,
            latest,
            away=str(error),
            live=context.feed.position,
            status=503,
        )
    except OperationFailed as error:
        return _page(context, request, filters, errors={error.field or "": str(error)}, status=400)
    entries = [entry_of(envelope_of(event)) for event in page.items]
    is_live = not after and filters.is_open
    live = stored_until if is_live else None
    return _page(context, request, filters, entries, older=page.next or "", live=live)


def _page(
    context: Web,
    request: web.BaseRequest,
    filters: Filters,
    entries: list[Entry] | None = None,
    *,
    status: int = 200,
    **values: Any,  # noqa: ANN401 - any value
) -> web.Response:
    known: dict[str, Any] = {"errors": {}, "older": "", "live": None, "away": ""}
    return context.render(
        request,
        "activity.html",
        status=status,
        page="activity",
        filters=filters,
        groups=grouped(entries or []),
        categories=CATEGORIES,
        types=TYPES,
        severities=SEVERITIES,
        clients=context.clients,
        spans=SPANS,
        is_first=not request.query.get("after"),
        **{**known, **values},
    )
