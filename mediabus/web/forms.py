"""Read the forms that pages submit, with a limit for their files."""

from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping
from typing import Final
from urllib.parse import parse_qs

import msgspec
from aiohttp import BodyPartReader, web

MAX_FIELDS: Final = 600
MAX_BYTES: Final = 65_536
"""Size of a form without a file, and of one field of a form with a file."""

CHUNK: Final = 65_536

MAX_FILE: Final = 5_000_000
"""Bytes of a .torrent or .nzb file. The request has it in base64, and may have 7 MiB."""


class Upload(msgspec.Struct, frozen=True):
    """A file of a form. ``content`` is at most one byte longer than ``MAX_FILE``."""

    filename: str
    content: bytes


class Submitted(msgspec.Struct, frozen=True):
    """The fields of a form: each has one or more values."""

    values: Mapping[str, list[str]]
    files: Mapping[str, Upload]

    def text(self, name: str) -> str:
        """Return a field without the spaces around it; empty if the form lacks it."""
        return self.values.get(name, [""])[0].strip()

    def texts(self, name: str) -> list[str]:
        """Return all values of a field."""
        return self.values.get(name, [])


async def submitted(request: web.BaseRequest) -> Submitted:
    """Read a form.

    Raises:
        HTTPBadRequest: the body is not a form.
        HTTPRequestEntityTooLarge: the form has too many or too large fields.
    """
    try:
        if request.content_type == "multipart/form-data":
            return await _multipart(request)
        body = await _read(request.content.read, MAX_BYTES)
        if len(body) > MAX_BYTES:
            raise web.HTTPRequestEntityTooLarge(MAX_BYTES, len(body))
        values = parse_qs(body.decode(), keep_blank_values=True, max_num_fields=MAX_FIELDS)
    except ValueError as error:
        raise web.HTTPBadRequest(text="the body is not a form\n") from error
    return Submitted(values, {})


async def _multipart(request: web.BaseRequest) -> Submitted:
    values: defaultdict[str, list[str]] = defaultdict(list)
    files: dict[str, Upload] = {}
    parts = 0
    async for part in await request.multipart():
        parts += 1
        if parts > MAX_FIELDS or not isinstance(part, BodyPartReader) or not part.name:
            raise ValueError("not a form of these pages")
        if part.filename is None:
            values[part.name].append((await _read(part.read_chunk, MAX_BYTES)).decode())
        else:
            files[part.name] = Upload(part.filename, await _read(part.read_chunk, MAX_FILE))
    return Submitted(values, files)


async def _read(read: Callable[[int], Awaitable[bytes]], limit: int) -> bytes:
    """Read to the end, or one byte more than the limit."""
    content = b""
    while len(content) <= limit and (chunk := await read(CHUNK)):
        content += chunk
    return content[: limit + 1]
