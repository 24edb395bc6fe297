"""What the handlers of pages use."""

import dataclasses
from typing import Any, Final

from aiohttp import web
from jinja2 import Environment

from mediabus.runtime.nats.bus import Bus
from mediabus.runtime.process.http_routes import Routes
from mediabus.schemas.identity import Actor
from mediabus.web.feed import Feed
from mediabus.web.outages import Outages
from mediabus.web.templating import rendered
from mediabus.web.users import Visitor

VISITOR: Final = web.RequestKey("visitor", Visitor)
REST: Final = web.RequestKey("rest", str)


@dataclasses.dataclass(frozen=True)
class Web:
    """The connections and templates of the pages. ``base`` is the path prefix, such as "/x"."""

    bus: Bus
    base: str
    clients: tuple[str, ...]
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
        visitor = request.get(VISITOR)
        known = {
            "base": self.base,
            "page": "",
            "user": visitor.name if visitor else "",
            "can_change": visitor is not None and visitor.can_change,
        }
        text = rendered(self.templates, template, **{**known, **values})
        response = web.Response(text=text, status=status, content_type="text/html")
        response.enable_compression()
        return response


def actor_of(request: web.BaseRequest) -> Actor:
    """Return the actor of what a visitor does."""
    return Actor("user", request[VISITOR].name)


def request_rest(request: web.BaseRequest) -> str:
    """Return the part of the path that ``*`` of the page's path stands for, still encoded."""
    return request[REST]


def redirect(context: Web, path: str) -> web.Response:
    """Lead the browser to a path below the base, by GET."""
    return web.Response(status=303, headers={"Location": f"{context.base}/{path}"})
