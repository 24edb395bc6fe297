"""Download the events of the activity, however many: as CSV, or as CloudEvents in JSON lines."""

import contextlib
import csv
import datetime
import io
from collections.abc import Callable, Iterable
from typing import Any, Final, NamedTuple

from aiohttp import web

from mediabus.api.errors import NoAnswer, OperationFailed
from mediabus.runtime.process.http_routes import TooManyStreams
from mediabus.schemas import codec
from mediabus.schemas.operations.requests import HistoryEvent
from mediabus.schemas.plain_text import plain
from mediabus.web.context import Web
from mediabus.web.entries import entry_of, envelope_of
from mediabus.web.filters import Filters, InvalidFilter
from mediabus.web.reading import history_pages
from mediabus.web.security import secure

COLUMNS: Final = (
    "time",
    "type",
    "severity",
    "sentence",
    "actor",
    "resource",
    "source",
    "correlation_id",
    "id",
)
FORMULA: Final = ("=", "+", "-", "@", "\t", "\r")
"""How a cell begins that a spreadsheet would compute."""


class Form(NamedTuple):
    """The form of a download."""

    content_type: str
    suffix: str
    header: bytes
    encode: Callable[[Iterable[HistoryEvent]], bytes]


async def as_csv(context: Web, request: web.BaseRequest) -> web.StreamResponse:
    """Send a table that spreadsheets read."""
    return await _download(context, request, CSV)


async def as_json_lines(context: Web, request: web.BaseRequest) -> web.StreamResponse:
    """Send each event as it was published, one a line."""
    return await _download(context, request, JSON_LINES)


async def _download(context: Web, request: web.BaseRequest, form: Form) -> web.StreamResponse:
    """Send the events that exist now. An error on the way breaks the download off."""
    try:
        matching = Filters.of(request.query).request()
    except InvalidFilter as error:
        raise web.HTTPBadRequest(text=f"{error.field}: {error}\n") from error
    now = datetime.datetime.now(datetime.UTC)
    pages = history_pages(context.bus, {"until": now, **matching})
    first: list[HistoryEvent] = await anext(pages, [])
    response = web.StreamResponse(
        headers={
            "Content-Disposition": f'attachment; filename="mediabus-{now:%Y-%m-%d}.{form.suffix}"'
        }
    )
    response.content_type, response.charset = form.content_type, "utf-8"
    response.enable_compression()
    secure(response)
    try:
        with context.routes.streaming(request), contextlib.suppress(ConnectionError):
            await response.prepare(request)
            await response.write(form.header + form.encode(first))
            async for events in pages:
                await response.write(form.encode(events))
    except TooManyStreams:
        raise web.HTTPServiceUnavailable(text="Too many pages are open.\n") from None
    except (NoAnswer, OperationFailed):
        if request.transport is not None:
            request.transport.abort()
    return response


def csv_rows(events: Iterable[HistoryEvent]) -> bytes:
    """Return a row for each event. No cell is a formula."""
    rows = []
    for event in events:
        entry = entry_of(envelope_of(event))
        actor = f"{event.actor_type}:{event.actor_id}" if event.actor_id else ""
        resource = str(entry.resource or "")
        known = (event.source, event.correlation_id or "", str(event.id))
        rows.append(
            (
                event.time.isoformat(),
                event.type,
                event.severity,
                entry.text,
                actor,
                resource,
                *known,
            )
        )
    return _rows(rows)


def _rows(rows: Iterable[Iterable[str]]) -> bytes:
    written = io.StringIO()
    csv.writer(written).writerows([[_cell(value) for value in row] for row in rows])
    return written.getvalue().encode()


def _cell(value: Any) -> str:  # noqa: ANN401 - any value
    text = plain(str(value))
    return f"'{text}" if text.startswith(FORMULA) else text


def json_lines(events: Iterable[HistoryEvent]) -> bytes:
    """Return a CloudEvent a line."""
    return b"".join(codec.encode_any(envelope_of(event)) + b"\n" for event in events)


CSV: Final = Form("text/csv", "csv", _rows([COLUMNS]), csv_rows)
JSON_LINES: Final = Form("application/jsonl", "jsonl", b"", json_lines)
