"""Read the body of a request within a limit."""

from typing import Final

from aiohttp import web

MAX_BODY: Final = 1_000_000
"""Bytes of a body, after decompression. The largest event has as many."""


class TooLarge(Exception):
    """The body exceeds the limit."""


async def read_body(request: web.BaseRequest) -> bytes:
    """Return the body of a request.

    Raises:
        TooLarge: the body has more than ``MAX_BODY`` bytes.
    """
    if (request.content_length or 0) > MAX_BODY:
        raise TooLarge
    chunks: list[bytes] = []
    size = 0
    async for chunk in request.content.iter_any():
        size += len(chunk)
        if size > MAX_BODY:
            raise TooLarge
        chunks.append(chunk)
    return b"".join(chunks)
