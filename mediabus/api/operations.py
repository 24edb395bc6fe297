"""Typed clients of the operations: a method per operation, with its arguments and its reply."""

import datetime
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, TypeVar, Unpack
from uuid import UUID

from msgspec import UNSET

from mediabus.api.arguments import (
    Caller,
    DeadLetterFilter,
    DownloadFilter,
    HistoryFilter,
    MediaChanges,
    MediaFilter,
    NewDownload,
    NewMedia,
    TimelineFilter,
)
from mediabus.api.request import ask
from mediabus.runtime.nats.bus import Bus
from mediabus.schemas.identity import Actor
from mediabus.schemas.operations.apps import AppList, AppState
from mediabus.schemas.operations.dead_letters import (
    DeadLetterMessage,
    DeadLetterPage,
    DeadLettersHandled,
)
from mediabus.schemas.operations.requests import (
    ACTOR_ID_HEADER,
    ACTOR_TYPE_HEADER,
    Counts,
    Deleted,
    Download,
    HistoryEvent,
    MediaItem,
    Page,
    Timeline,
)

IDEMPOTENCY_HEADER: Final = "Mediabus-Idempotency-Key"

ReplyT = TypeVar("ReplyT")


class _Operations:
    """Requests in the name of an actor. Every method raises OperationFailed and NoAnswer."""

    def __init__(self, bus: Bus, actor: Actor | None) -> None:
        self._bus = bus
        self._actor = actor

    async def _read(self, subject: str, reply_type: type[ReplyT], **request: object) -> ReplyT:
        """Send a request. None is an argument that was not given."""
        given = {name: value for name, value in request.items() if value is not None}
        return await self._ask(subject, given, reply_type, {})

    async def _change(
        self, subject: str, reply_type: type[ReplyT], arguments: Mapping[str, object]
    ) -> ReplyT:
        """Send a request, without its arguments of ``Caller``, in the name of the caller."""
        request = {
            name: value
            for name, value in arguments.items()
            if name not in Caller.__annotations__ and value is not UNSET
        }
        return await self._ask(subject, request, reply_type, arguments)

    async def _ask(
        self,
        subject: str,
        request: Mapping[str, object],
        reply_type: type[ReplyT],
        caller: Mapping[str, object],
    ) -> ReplyT:
        headers: dict[str, str] = {}
        actor = caller.get("actor") or self._actor
        if isinstance(actor, Actor):
            headers |= {ACTOR_TYPE_HEADER: actor.type, ACTOR_ID_HEADER: actor.id}
        if (key := caller.get("idempotency_key")) is not None:
            headers[IDEMPOTENCY_HEADER] = str(key)
        return await ask(self._bus, subject, request, reply_type, headers=headers)


class Media(_Operations):
    """The media items of the library."""

    async def create(self, **fields: Unpack[NewMedia]) -> MediaItem:
        """Add a media item. A movie needs a year."""
        given = {name: value for name, value in fields.items() if value is not None}
        return await self._change("media.create", MediaItem, {"type": "movie", **given})

    async def update(self, item: UUID, **changes: Unpack[MediaChanges]) -> MediaItem:
        """Change the fields that are given; None clears a field."""
        return await self._change("media.update", MediaItem, {"id": item, **changes})

    async def delete(self, items: Iterable[UUID], **caller: Unpack[Caller]) -> Sequence[UUID]:
        """Delete up to 1,000 media items and return the ids of those that were there."""
        request = {"ids": [*items], **caller}
        return (await self._change("media.delete", Deleted, request)).ids

    async def set_monitored(
        self, items: Iterable[UUID], *, monitored: bool, **caller: Unpack[Caller]
    ) -> Sequence[MediaItem]:
        """Monitor up to 1,000 media items, or stop monitoring them, and return them."""
        request = {"ids": [*items], "monitored": monitored, **caller}
        return (await self._change("media.set_monitored", Page[MediaItem], request)).items

    async def get(self, item: UUID) -> MediaItem:
        """Return a media item."""
        return await self._read("media.get", MediaItem, id=item)

    async def list(
        self,
        *,
        limit: int = 100,
        after: UUID | str | None = None,
        **matching: Unpack[MediaFilter],
    ) -> Page[MediaItem]:
        """Return a page of media items, oldest first. ``after`` is ``next`` of the page before."""
        return await self._read("media.list", Page[MediaItem], limit=limit, after=after, **matching)


class Downloads(_Operations):
    """The downloads of all clients."""

    async def initiate(self, **fields: Unpack[NewDownload]) -> Download:
        """Hand a download to a client. Give exactly one of magnet, torrent, nzb and url."""
        given = {name: value for name, value in fields.items() if value is not None}
        return await self._change("downloads.initiate", Download, given)

    async def cancel(
        self, download: UUID, *, delete_files: bool = False, **caller: Unpack[Caller]
    ) -> Download:
        """Remove a download from its client, with or without its files."""
        request = {"id": download, "delete_files": delete_files, **caller}
        return await self._change("downloads.cancel", Download, request)

    async def pause(self, download: UUID, **caller: Unpack[Caller]) -> Download:
        """Pause a download."""
        return await self._change("downloads.pause", Download, {"id": download, **caller})

    async def resume(self, download: UUID, **caller: Unpack[Caller]) -> Download:
        """Resume a paused download."""
        return await self._change("downloads.resume", Download, {"id": download, **caller})

    async def get(self, download: UUID) -> Download:
        """Return a download and, while its client has it, its status there."""
        return await self._read("downloads.get", Download, id=download)

    async def list(
        self,
        *,
        limit: int = 100,
        after: UUID | str | None = None,
        **matching: Unpack[DownloadFilter],
    ) -> Page[Download]:
        """Return a page of downloads, newest first. ``after`` is ``next`` of the page before."""
        return await self._read(
            "downloads.list", Page[Download], limit=limit, after=after, **matching
        )


class History(_Operations):
    """The stored events. ``since`` and ``until`` need a time zone."""

    async def list(
        self, *, limit: int = 50, after: str | None = None, **matching: Unpack[HistoryFilter]
    ) -> Page[HistoryEvent]:
        """Return a page of events, newest first. ``after`` is ``next`` of the page before."""
        return await self._read(
            "history.list", Page[HistoryEvent], limit=limit, after=after, **matching
        )

    async def count(self, **matching: Unpack[HistoryFilter]) -> Counts:
        """Return how many events match, in all and of each type."""
        return await self._read("history.count", Counts, **matching)

    async def timeline(self, *, step: int = 60, **matching: Unpack[TimelineFilter]) -> Timeline:
        """Return how many events match in each step of ``step`` seconds, by default for an hour."""
        return await self._read("history.timeline", Timeline, step=step, **matching)

    async def get(self, event: UUID) -> HistoryEvent:
        """Return an event."""
        return await self._read("history.get", HistoryEvent, id=event)


class Applications(_Operations):
    """The applications of the settings, such as Sonarr."""

    async def list(self) -> AppList:
        """Return the state of each application."""
        return await self._read("apps.list", AppList)

    async def import_history(self, name: str, since: datetime.datetime) -> AppState:
        """Import the history of an application from ``since`` on, which needs a time zone."""
        return await self._read("apps.import", AppState, name=name, since=since)


class DeadLetters(_Operations):
    """The messages that a consumer could not process."""

    async def list(
        self, *, limit: int = 50, after: str | None = None, **matching: Unpack[DeadLetterFilter]
    ) -> DeadLetterPage:
        """Return a page of dead letters, newest first. ``after`` is ``next`` of the page before."""
        return await self._read("dead.list", DeadLetterPage, limit=limit, after=after, **matching)

    async def get(self, number: int) -> DeadLetterMessage:
        """Return a dead letter with the body of its message."""
        return await self._read("dead.get", DeadLetterMessage, number=number)

    async def retry(self, numbers: Iterable[int]) -> DeadLettersHandled:
        """Publish up to 100 messages again, for the consumers that could not process them."""
        return await self._read("dead.retry", DeadLettersHandled, numbers=[*numbers])

    async def discard(self, numbers: Iterable[int]) -> DeadLettersHandled:
        """Delete up to 100 dead letters."""
        return await self._read("dead.discard", DeadLettersHandled, numbers=[*numbers])
