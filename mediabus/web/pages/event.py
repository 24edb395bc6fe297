"""The page of one event: its fields, or the CloudEvent as it was published."""

import json
from uuid import UUID

import msgspec
from aiohttp import web

from mediabus.api.errors import OperationFailed
from mediabus.schemas import codec
from mediabus.schemas.operations.requests import HistoryEvent
from mediabus.web.context import Web, request_rest
from mediabus.web.entries import entry_of, envelope_of
from mediabus.web.reading import read


async def event(context: Web, request: web.BaseRequest) -> web.StreamResponse:
    """Show an event. Raises HTTPNotFound."""
    try:
        wanted = UUID(request_rest(request))
        stored = await read(context.bus, "history.get", {"id": str(wanted)}, HistoryEvent)
    except ValueError as error:
        raise web.HTTPNotFound(text="There is no such event.") from error
    except OperationFailed as error:
        waiting = "An event that has just happened is stored within a second."
        text = f"{error}. {waiting}" if error.code == 404 else str(error)
        raise web.HTTPNotFound(text=text) from error
    envelope = envelope_of(stored)
    is_raw = request.query.get("view") == "raw"
    return context.render(
        request,
        "event.html",
        page="activity",
        event=stored,
        entry=entry_of(envelope),
        is_raw=is_raw,
        raw=indented(codec.encode_any(envelope)) if is_raw else "",
        data=_fields(stored),
    )


def _fields(stored: HistoryEvent) -> dict[str, str]:
    """Return the fields of the data as text."""
    try:
        value = msgspec.json.decode(stored.data)
    except msgspec.DecodeError:
        return {}
    if not isinstance(value, dict):
        return {"data": _text(value)}
    return {name: _text(inner) for name, inner in value.items()}


def _text(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def indented(encoded: bytes) -> str:
    """Return JSON on several lines; as it is if Python cannot read its numbers."""
    try:
        return msgspec.json.format(encoded, indent=2).decode()
    except msgspec.DecodeError:
        return encoded.decode()
