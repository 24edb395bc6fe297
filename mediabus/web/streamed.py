"""Send the top of a page before its data is read, so that a browser shows it at once."""

import logging
import zlib
from collections.abc import Awaitable
from typing import Any, Final

from aiohttp import web
from jinja2 import Environment

from mediabus.web.security import secure
from mediabus.web.templating import rendered, top_of

log: Final = logging.getLogger("mediabus.web")

FAILED: Final = "<h1>This page failed</h1><p>The log of mediabus has the reason.</p></main></html>"


def is_for_browser(request: web.BaseRequest) -> bool:
    """Return whether a person waits for a page. For a program, the status is worth more."""
    return request.method == "GET" and "text/html" in request.headers.get("Accept", "")


async def streamed(
    request: web.BaseRequest,
    templates: Environment,
    template: str,
    reading: Awaitable[tuple[dict[str, Any], int]],
    known: dict[str, Any],
) -> web.StreamResponse:
    """Send a page in two parts: up to its main part, and the rest when its data is read.

    The status is always 200.
    """
    response = web.StreamResponse()
    response.content_type = "text/html"
    response.charset = "utf-8"
    parts = _Parts(request, response)
    secure(response)
    await response.prepare(request)
    top = top_of(templates, template, **known)
    await response.write(parts.part(top))
    try:
        values, _ = await reading
        page = rendered(templates, template, **known, **values)
    except Exception:
        log.exception("a page failed", extra={"path": request.path[:200]})
        page = top + FAILED
    await response.write(parts.part(page.removeprefix(top)) + parts.end())
    await response.write_eof()
    return response


class _Parts:
    """Encodes the parts of a response, compressed if the browser accepts it."""

    def __init__(self, request: web.BaseRequest, response: web.StreamResponse) -> None:
        self._compressor = None
        response.headers["Vary"] = "Accept-Encoding"
        if "gzip" in request.headers.get("Accept-Encoding", ""):
            response.headers["Content-Encoding"] = "gzip"
            self._compressor = zlib.compressobj(wbits=zlib.MAX_WBITS | 16)

    def part(self, text: str) -> bytes:
        """Return the bytes from which a browser can decode all text so far."""
        body = text.encode()
        if self._compressor is None:
            return body
        return self._compressor.compress(body) + self._compressor.flush(zlib.Z_SYNC_FLUSH)

    def end(self) -> bytes:
        """Return the last bytes."""
        return self._compressor.flush() if self._compressor else b""
