"""Answer each request of a browser: find its visitor and its page, and refuse what is forbidden."""

import logging
from collections.abc import Sequence
from typing import Final
from urllib.parse import quote

from aiohttp import web

from mediabus.api.errors import NoAnswer, OperationFailed
from mediabus.web.access import Access
from mediabus.web.context import REST, VISITOR, Web
from mediabus.web.page import Page
from mediabus.web.security import secure
from mediabus.web.static_files import StaticFiles

log: Final = logging.getLogger("mediabus.web")

READS: Final = frozenset({"GET", "HEAD"})


class Site:
    """The pages below a base path."""

    def __init__(
        self, context: Web, pages: Sequence[Page], access: Access, files: StaticFiles
    ) -> None:
        self._context = context
        self._access = access
        self._files = files
        self._exact = {page.path: page for page in pages if not page.path.endswith("*")}
        self._prefixes = [page for page in pages if page.path.endswith("*")]

    async def answer(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer a request. Never raises an error of a handler."""
        try:
            response = await self._answer(request)
        except web.HTTPException as error:
            response = self._refuse(request, error.status, (error.text or error.reason).strip())
        except OperationFailed as error:
            response = self._refuse(request, error.code, str(error))
        except NoAnswer as error:
            response = self._refuse(request, 503, str(error))
        except ConnectionError:
            raise
        except Exception:
            log.exception("a page failed", extra={"path": request.path[:200]})
            response = self._refuse(request, 500, "This page failed. The log has the reason.")
        if not response.prepared:
            secure(response)
        return response

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        path = self._path_below_base(request)
        if not self._access.is_host_allowed(request):
            raise web.HTTPForbidden(text=f"Open these pages as localhost, not as {request.host}.")
        if path.startswith("static/"):
            return self._files.serve(request, path.removeprefix("static/"))
        page, request[REST] = self._find(path)
        visitor = self._access.visitor(request)
        if visitor is not None:
            request[VISITOR] = visitor
        elif page is None or not page.is_public:
            return self._ask_to_sign_in(request, page)
        if page is None:
            raise web.HTTPNotFound(text="There is no such page.")
        self._require_allowed(request, page)
        return await page.handler(self._context, request)

    def _path_below_base(self, request: web.BaseRequest) -> str:
        """Return the encoded path without base and slash. Raises HTTPNotFound."""
        path, prefix = request.rel_url.raw_path, f"{self._context.base}/"
        if not path.startswith(prefix):
            raise web.HTTPNotFound(text=f"The pages are at {prefix}")
        return path.removeprefix(prefix)

    def _find(self, path: str) -> tuple[Page | None, str]:
        if (page := self._exact.get(path)) is not None:
            return page, ""
        for page in self._prefixes:
            if path.startswith(page.path[:-1]):
                return page, path.removeprefix(page.path[:-1])
        return None, ""

    def _require_allowed(self, request: web.BaseRequest, page: Page) -> None:
        """Raise HTTPMethodNotAllowed, or HTTPForbidden for a change by a viewer or by a site."""
        if request.method not in page.methods and request.method != "HEAD":
            raise web.HTTPMethodNotAllowed(request.method, page.methods, text="Not that way.")
        if request.method in READS:
            return
        if not self._access.is_same_origin(request):
            raise web.HTTPForbidden(
                text="Another site sent this form. If a proxy is in front of mediabus, let it pass "
                "the header Host on."
            )
        visitor = request.get(VISITOR)
        if visitor is not None and not visitor.can_change and not page.is_for_viewers:
            raise web.HTTPForbidden(text=f"{visitor.name} may look, but not change anything.")

    def _ask_to_sign_in(self, request: web.BaseRequest, page: Page | None) -> web.StreamResponse:
        if request.method not in READS or (page is not None and page.is_data):
            raise web.HTTPUnauthorized(text="Sign in first.")
        if request.headers.get("Sec-Fetch-Site") == "cross-site":
            # A link on another site: the browser sends the cookie only when the page asks itself.
            return self._context.render(request, "reopen.html")
        wanted = quote(request.rel_url.raw_path_qs, safe="")
        return web.Response(
            status=303, headers={"Location": f"{self._context.base}/login?next={wanted}"}
        )

    def _refuse(self, request: web.BaseRequest, status: int, why: str) -> web.Response:
        if VISITOR not in request or "text/html" not in request.headers.get("Accept", ""):
            return web.Response(status=status, text=f"{why}\n")
        return self._context.render(request, "error.html", status=status, why=why, code=status)
