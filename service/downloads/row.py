"""A row of the table ``downloads``, and the transitions between its states. Pure data."""

import dataclasses
import datetime
from collections.abc import Iterable
from typing import Any, Final, Literal, Self, TypedDict
from uuid import UUID

import msgspec

from mediabus.schemas.envelope import Envelope
from mediabus.schemas.events import Event
from mediabus.schemas.fitting import LONGEST_TEXT, fitted, fitted_text
from mediabus.schemas.identity import Actor, ActorType, ProvenActor, Resource
from mediabus.schemas.operations.requests import Download, DownloadState
from mediabus.schemas.status import DownloadStatus, FailureReason, ItemId, Protocol

Ask = Literal["initiate", "pause", "resume", "cancel", "cancel_with_files"]

UNFINISHED: Final[frozenset[DownloadState]] = frozenset(
    {"initiating", "active", "paused", "stalled"}
)
"""The states of a download whose data may still arrive."""

MONITOR: Final = Actor("system", "download_monitor")


class Facts(TypedDict):
    """The fields that all download events share."""

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

    ``asked`` is a request that the client has not carried out yet. ``age``, ``unchanged_for`` and
    ``asked_for`` are in seconds by the database's clock. ``app`` is the application that grabbed
    it, and ``correlation_id`` that story. ``failed_at`` is when its failure was reported.
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
    asked_proven: str | None = None
    asked_correlation_id: str | None
    asked_at: datetime.datetime | None
    created_at: datetime.datetime
    updated_at: datetime.datetime
    completed_at: datetime.datetime | None
    unstable_since: datetime.datetime | None = None
    given_up: bool = False
    correlation_id: str | None = None
    app: str | None = None
    failed_at: datetime.datetime | None = None
    age: float
    unchanged_for: float
    asked_for: float | None

    @classmethod
    def of(cls, record: Iterable[tuple[str, Any]]) -> Self:
        """Build a row from the columns of a database record."""
        return msgspec.convert(dict(record), cls)

    @property
    def asked_by(self) -> Actor | None:
        """The actor of the request in ``asked``."""
        if self.asked_by_type is None or self.asked_by_id is None:
            return None
        actor = Actor(self.asked_by_type, self.asked_by_id)
        if self.asked_proven == str(actor):  # version 0.1.0 does not clear an older proof
            return ProvenActor(actor.type, actor.id)
        return actor

    @property
    def is_given_up(self) -> bool:
        """Whether the monitor failed the download because it was never handed over."""
        return self.state == "failed" and self.given_up

    @property
    def resource(self) -> Resource:
        """The resource of its events: the media item if there is one, else the download."""
        if self.media_item_id is not None:
            return Resource("media_item", str(self.media_item_id))
        return Resource("download", str(self.id))

    def facts(self, *, size: int | None = None, client_item: str | None = None) -> Facts:
        """Return the fields that all its events share. Arguments override the row."""
        return Facts(
            download_id=self.id,
            title=self.title,
            client=self.client,
            client_item=client_item or self.client_item,
            indexer=self.indexer,
            protocol=self.protocol,
            size=self.size if size is None else size,
            media_item_id=self.media_item_id,
            media_title=self.media_title,
        )

    def fact(self, event: Event, actor: Actor, correlation_id: str | None = None) -> "Fact":
        """Attribute an event to its actor.

        An event of the actor in ``asked_by`` belongs to that request unless ``correlation_id`` is
        given.
        """
        asked = self.asked_correlation_id if str(actor) == str(self.asked_by) else None
        return Fact(event, actor, correlation_id or asked)

    def envelope(self, fact: "Fact") -> Envelope:
        """Put an event of this download into an envelope, which gets an id and the current time."""
        return Envelope.of(
            fitted(fact.event),
            actor=fact.actor,
            resource=self.resource,
            correlation_id=fact.correlation_id or self.correlation_id,
        )

    def shown(self, status: DownloadStatus | None = None) -> Download:
        """Return the download as operations reply it. Long texts are cut: one would fill a page."""
        values = {name: getattr(self, name) for name in _SHOWN}
        for name, value in values.items():
            if isinstance(value, str) and len(value) > LONGEST_TEXT:
                values[name] = fitted_text(value)
        return Download(**values, status=status)


_SHOWN: Final = tuple(name for name in Download.__struct_fields__ if name != "status")


@dataclasses.dataclass(frozen=True, kw_only=True)
class NewDownload:
    """The columns of a row that is about to be inserted."""

    id: UUID
    title: str
    state: DownloadState = "initiating"
    client: str
    client_item: ItemId | None
    protocol: Protocol
    category: str | None
    indexer: str | None = None
    media_item_id: UUID | None
    size: int | None = None
    save_path: str | None = None
    correlation_id: str | None = None
    app: str | None = None
    failed_at: datetime.datetime | None = None
    aliases: tuple[ItemId, ...] = ()


@dataclasses.dataclass(frozen=True)
class Fact:
    """An event of a transition. It gets its id and time when ``table.step`` records it."""

    event: Event
    actor: Actor
    correlation_id: str | None = None


@dataclasses.dataclass(frozen=True)
class Transition:
    """A transition of a download: its new state, its events, and new values of columns.

    None in ``client_item``, ``size``, ``save_path`` or ``unstable`` keeps the value of the row.
    """

    state: DownloadState
    events: tuple[Fact, ...]
    client_item: str | None = None
    size: int | None = None
    save_path: str | None = None
    reason: FailureReason | None = None
    error_message: str | None = None
    unstable: bool | None = None
    given_up: bool = False
