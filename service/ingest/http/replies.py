"""Answers of the HTTP endpoints, as JSON."""

from typing import Any

import msgspec
from aiohttp import web


def answer(status: int, body: Any, **headers: str) -> web.Response:  # noqa: ANN401 - JSON
    """Return an answer with a JSON body."""
    return web.Response(
        status=status,
        body=msgspec.json.encode(body),
        content_type="application/json",
        headers={name.replace("_", "-"): value for name, value in headers.items()},
    )


def refuse(status: int, reason: str, **headers: str) -> web.Response:
    """Return a refusal with its reason."""
    return answer(status, {"error": reason}, **headers)
