"""What the handlers of pages use."""

import asyncio
import dataclasses
from collections.abc import Coroutine, Sequence
from typing import Any, Final

from aiohttp import web
from jinja2 import Environment

from mediabus.runtime.nats.bus import Bus
from mediabus.runtime.process.http_routes import Routes
from mediabus.schemas.identity import Actor
from mediabus.web.feed import Feed
from mediabus.web.outages import Outages
from mediabus.web.streamed import is_for_browser, streamed
from mediabus.web.templating import rendered
from mediabus.web.users import Visitor

VISITOR: Final = web.RequestKey("visitor", Visitor)
REST: Final = web.RequestKey("rest", str)

Values = tuple[dict[str, Any], int]
"""What a template shows, and the HTTP status of the page."""


@dataclasses.dataclass(frozen=True)
class Web:
    """The connections and templates of the pages. ``base`` is the path prefix, such as "/x".

    A reload of the settings changes ``clients``, the names of the enabled download clients.
    """

    bus: Bus
    base: str
    clients: Sequence[str]
    routes: Routes
    templates: Environment
    feed: Feed
    outages: Outages

    def render(
        self,
        request: web.BaseRequest,
        template: str,
        *,
        status: int = 200,
        **values: Any,  # noqa: ANN401 - any value
    ) -> web.Response:
        """Return a page. Its template knows the visitor, and what they may do."""
        text = rendered(self.templates, template, **{**self._known(request), **values})
        response = web.Response(text=text, status=status, content_type="text/html")
        response.enable_compression()
        return response

    async def stream(
        self,
        request: web.BaseRequest,
        template: str,
        reading: Coroutine[Any, Any, Values],
        **known: Any,  # noqa: ANN401 - any value
    ) -> web.StreamResponse:
        """Return a page whose data is still being read: a browser shows its top at once.

        ``known`` are the values for the top. For a program, and if nothing is to be waited for, the
        page has the status of its data.
        """
        values = asyncio.create_task(reading)
        await asyncio.sleep(0)
        if values.done() or not is_for_browser(request):
            found, status = await values
            return self.render(request, template, status=status, **known, **found)
        known = {**self._known(request), **known}
        try:
            return await streamed(request, self.templates, template, values, known)
        finally:
            values.cancel()  # the browser may be gone

    def _known(self, request: web.BaseRequest) -> dict[str, Any]:
        visitor = request.get(VISITOR)
        return {
            "base": self.base,
            "page": "",
            "user": visitor.name if visitor else "",
            "can_change": visitor is not None and visitor.can_change,
        }


def actor_of(request: web.BaseRequest) -> Actor:
    """Return the actor of what a visitor does."""
    return Actor("user", request[VISITOR].name)


def request_rest(request: web.BaseRequest) -> str:
    """Return the part of the path that ``*`` of the page's path stands for, still encoded."""
    return request[REST]


def redirect(context: Web, path: str) -> web.Response:
    """Lead the browser to a path below the base, by GET."""
    return web.Response(status=303, headers={"Location": f"{context.base}/{path}"})
