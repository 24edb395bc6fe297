"""A download as its row tells it, and the events that tell of it. Pure data."""

import dataclasses
import datetime
from collections.abc import Iterable
from typing import Any, Final, Literal, Self, TypedDict
from uuid import UUID

import msgspec

from schemas.commands import Download, DownloadState
from schemas.envelope import Envelope
from schemas.events import Event
from schemas.identity import Actor, ActorType, Resource
from schemas.status import DownloadStatus, FailureReason, Protocol

Ask = Literal["initiate", "pause", "resume", "cancel", "cancel_with_files"]

UNFINISHED: Final[frozenset[DownloadState]] = frozenset(
    {"initiating", "active", "paused", "stalled"}
)
"""The states of a download that may still bring its data."""

MONITOR: Final = Actor("system", "download_monitor")


class Facts(TypedDict):
    """What every download event says of its download."""

    download_id: UUID
    title: str
    client: str
    client_item: str | None
    indexer: str | None
    protocol: Protocol | None
    size: int | None
    media_item_id: UUID | None
    media_title: str | None


class DownloadRow(msgspec.Struct, frozen=True, kw_only=True):
    """A row of ``downloads``, with the title of its media item.

    ``asked`` is what somebody asked for and the client has not shown yet. ``age``,
    ``unchanged_for`` and ``asked_for`` are seconds by the database's clock.
    """

    id: UUID
    title: str
    state: DownloadState
    client: str
    client_item: str | None
    protocol: Protocol
    category: str | None
    indexer: str | None
    media_item_id: UUID | None
    media_title: str | None
    size: int | None
    save_path: str | None
    reason: FailureReason | None
    error_message: str | None
    asked: Ask | None
    asked_by_type: ActorType | None
    asked_by_id: str | None
    asked_correlation_id: str | None
    asked_at: datetime.datetime | None
    created_at: datetime.datetime
    updated_at: datetime.datetime
    completed_at: datetime.datetime | None
    age: float
    unchanged_for: float
    asked_for: float | None

    @classmethod
    def of(cls, record: Iterable[tuple[str, Any]]) -> Self:
        """The row of a database record's columns."""
        return msgspec.convert(dict(record), cls)

    @property
    def asked_by(self) -> Actor | None:
        """Who asked for what ``asked`` says."""
        if self.asked_by_type is None or self.asked_by_id is None:
            return None
        return Actor(self.asked_by_type, self.asked_by_id)

    @property
    def given_up(self) -> str:
        """The words for a download that its client was never given, as far as one can see."""
        return f"mediabus was stopped before {self.client} had the download: initiate it again"

    @property
    def is_given_up(self) -> bool:
        """Whether the monitor took it for one that its client was never given."""
        return self.state == "failed" and self.error_message == self.given_up

    @property
    def resource(self) -> Resource:
        """What its events are about: its media item if it has one, else the download."""
        if self.media_item_id is not None:
            return Resource("media_item", str(self.media_item_id))
        return Resource("download", str(self.id))

    def facts(self, *, size: int | None = None, client_item: str | None = None) -> Facts:
        """The fields that all its events share; what is given is known better than the row does."""
        return Facts(
            download_id=self.id,
            title=self.title,
            client=self.client,
            client_item=client_item or self.client_item,
            indexer=self.indexer,
            protocol=self.protocol,
            size=size or self.size,
            media_item_id=self.media_item_id,
            media_title=self.media_title,
        )

    def says(self, event: Event, actor: Actor, correlation_id: str | None = None) -> Envelope:
        """The envelope of an event about this download. One in the name of whoever asked belongs
        to what they asked."""
        asked = self.asked_correlation_id if actor == self.asked_by else None
        return Envelope.of(
            event, actor=actor, resource=self.resource, correlation_id=correlation_id or asked
        )

    def shown(self, status: DownloadStatus | None = None) -> Download:
        """The download as the operations reply it."""
        values = {name: getattr(self, name) for name in _SHOWN}
        return Download(**values, status=status)


_SHOWN: Final = tuple(name for name in Download.__struct_fields__ if name != "status")


@dataclasses.dataclass(frozen=True)
class Transition:
    """A step in a download's life: the state it enters, what it tells, and what was learnt. None
    leaves a column as it was."""

    state: DownloadState
    events: tuple[Envelope, ...]
    client_item: str | None = None
    size: int | None = None
    save_path: str | None = None
    reason: FailureReason | None = None
    error_message: str | None = None
