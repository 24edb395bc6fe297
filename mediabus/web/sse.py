"""Server-sent events: https://html.spec.whatwg.org/multipage/server-sent-events.html"""

import random
from typing import Final

from aiohttp import web

from mediabus.web.security import secure

COMMENT: Final = b": \n\n"
"""Means nothing, but a proxy keeps the connection open."""


def message(event: str, data: str, number: int | None = None) -> bytes:
    """Return a message. ``number`` is what a page resumes from."""
    lines = [f"event: {event}"]
    if number is not None:
        lines.append(f"id: {number}")
    lines += [f"data: {line}" for line in data.splitlines() or [""]]
    return ("\n".join(lines) + "\n\n").encode()


def position(number: int) -> bytes:
    """Return a message that only moves the position from which a page resumes."""
    return f"id: {number}\n\n".encode()


def chunk(body: bytes) -> bytes:
    """Frame bytes for a chunked response, for many connections at once."""
    return b"%x\r\n%s\r\n" % (len(body), body)


async def open_stream(request: web.BaseRequest) -> web.StreamResponse:
    """Begin a stream of messages. Pages reconnect at different times after an outage."""
    response = web.StreamResponse()
    response.content_type = "text/event-stream"
    response.charset = "utf-8"
    response.headers["X-Accel-Buffering"] = "no"  # nginx would hold messages back
    secure(response)
    await response.prepare(request)
    delay = random.randint(500, 1500)  # noqa: S311 - no secret
    await response.write(f"retry: {delay}\n\n".encode())
    return response
