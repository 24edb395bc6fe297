"""The page Story: the whole life of an item, from the first event to the last."""

import datetime
from collections.abc import Iterable
from typing import Final
from urllib.parse import unquote
from uuid import UUID

import msgspec
from aiohttp import web

from mediabus.api.errors import NoAnswer, OperationFailed
from mediabus.runtime.nats.bus import Bus
from mediabus.schemas.operations.requests import Download, HistoryEvent, MediaItem, Page
from mediabus.web.context import Web, request_rest
from mediabus.web.entries import Entry, entry_of, envelope_of
from mediabus.web.reading import MOST, history_page, read

MAX_DOWNLOADS: Final = 20
"""Downloads of a media item whose events its story tells."""

TITLES: Final = {"media_item": "Media item", "download": "Download"}


class Step(msgspec.Struct):
    """An event of a story, with the events that it caused."""

    entry: Entry
    effects: list["Step"]
    after_seconds: float | None = None
    """Since the step before it; None for the first one."""


async def story(context: Web, request: web.BaseRequest) -> web.StreamResponse:
    """Show the story of a resource. Raises HTTPNotFound."""
    kind, slash, name = request_rest(request).partition("/")
    kind, name = unquote(kind), unquote(name)
    if not (slash and kind and name):
        raise web.HTTPNotFound(text="There is no such story.")
    try:
        page = await _events(context.bus, kind, name)
        others = await _related(context.bus, kind, name)
    except OperationFailed as error:
        raise web.HTTPNotFound(text=str(error)) from error
    entries = {event.id: _entry(event) for event in (*page.items, *others)}
    item = await _item(context.bus, kind, name)
    return context.render(
        request,
        "story.html",
        page="activity",
        kind=kind,
        name=name,
        heading=item.title if item else _title(entries.values()) or name,
        what=TITLES.get(kind, kind.replace("_", " ")),
        item=item,
        steps=steps_of(list(entries.values())),
        is_cut=page.next is not None,
        status=200 if entries or item else 404,
    )


def _entry(event: HistoryEvent) -> Entry:
    entry = entry_of(envelope_of(event))
    return msgspec.structs.replace(entry, sequence=event.stream_seq or 0)


async def _events(bus: Bus, kind: str, name: str) -> Page[HistoryEvent]:
    matching = {"resource_type": kind, "resource_id": name}
    return await history_page(bus, matching, limit=MOST)


async def _related(bus: Bus, kind: str, name: str) -> list[HistoryEvent]:
    """Return the events of the downloads of a media item."""
    if kind != "media_item" or _uuid(name) is None:
        return []
    request = {"media_item_id": name, "limit": MAX_DOWNLOADS}
    try:
        downloads = await read(bus, "downloads.list", request, Page[Download])
    except NoAnswer:  # the story of the item itself is worth showing
        return []
    events = []
    for download in downloads.items:
        events += (await _events(bus, "download", str(download.id))).items
    return events


async def _item(bus: Bus, kind: str, name: str) -> MediaItem | Download | None:
    """Return the item as it is now; None if it is gone, or is of another kind."""
    if _uuid(name) is None:
        return None
    try:
        if kind == "media_item":
            return await read(bus, "media.get", {"id": name}, MediaItem)
        if kind == "download":
            return await read(bus, "downloads.get", {"id": name}, Download)
    except (NoAnswer, OperationFailed):
        pass
    return None


def _uuid(text: str) -> UUID | None:
    try:
        return UUID(text)
    except ValueError:
        return None


def _title(entries: Iterable[Entry]) -> str:
    """Return the title in the latest sentence that has one."""
    parts = (part for entry in entries for part in entry.parts)
    return next((part.text for part in parts if part.role == "title"), "")


def steps_of(entries: list[Entry]) -> list[Step]:
    """Return the events in order, each below the one that caused it.

    An event names its cause, or shares its correlation with an earlier event. Applications report
    times in whole seconds, so events of the same time are in the order of the stream.
    """
    roots: list[Step] = []
    by_id: dict[str, Step] = {}
    by_correlation: dict[str, Step] = {}
    for entry in sorted(entries, key=lambda entry: (entry.time, entry.sequence, entry.key)):
        step = Step(entry, [])
        cause = by_id.get(entry.causation_id or "") or by_correlation.get(
            entry.correlation_id or ""
        )
        (cause.effects if cause else roots).append(step)
        by_id[str(entry.id)] = step
        if entry.correlation_id:
            by_correlation.setdefault(entry.correlation_id, cause or step)
    _time(roots, None)
    return roots


def _time(steps: list[Step], before: datetime.datetime | None) -> None:
    """Note how long after the step before it, or after its cause, each step came."""
    for step in steps:
        if before is not None:
            step.after_seconds = max(0.0, (step.entry.time - before).total_seconds())
        _time(step.effects, step.entry.time)
        before = step.entry.time
