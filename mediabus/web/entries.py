"""Events as the pages show them: a sentence, a time, a severity, and links."""

import datetime
from typing import Final
from urllib.parse import quote
from uuid import UUID

import msgspec

from mediabus.schemas.envelope import NO_DATA, Envelope
from mediabus.schemas.events import EVENT_TYPES, Event, Severity
from mediabus.schemas.identity import Actor, Resource
from mediabus.schemas.operations.history_cursor import cursor_of
from mediabus.schemas.operations.requests import HistoryEvent
from mediabus.schemas.sentences import Part, sentence_of

STORIES: Final = frozenset({"media_item", "download"})
"""The types of resources whose story is worth a link of its own."""

_NOT_TYPED: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


class Entry(msgspec.Struct, frozen=True):
    """An event, ready for a template."""

    id: UUID
    time: datetime.datetime
    type: str
    severity: Severity
    icon: str
    parts: tuple[Part, ...]
    group: str
    """Equal for events that say the same: shown together if nothing else came in between."""

    is_verified: bool = False
    resource: Resource | None = None
    correlation_id: str | None = None
    causation_id: str | None = None
    sequence: int = 0
    """The position in the stream, if it is known."""

    @property
    def key(self) -> str:
        """The position in the order of the history, newest first: it compares as text."""
        moment = self.time.astimezone(datetime.UTC)
        return f"{moment:%Y%m%d%H%M%S%f}-{self.id}"

    @property
    def cursor(self) -> str:
        """The ``after`` of the page that begins behind this event."""
        return cursor_of(self.time, self.id)

    @property
    def text(self) -> str:
        """The sentence without marks."""
        return "".join(part.text for part in self.parts)


class Group(msgspec.Struct, frozen=True):
    """An event, and the older ones right after it that say the same."""

    first: Entry
    others: list[Entry]

    @property
    def last(self) -> Entry:
        """The oldest of them."""
        return self.others[-1] if self.others else self.first


def entry_of(envelope: Envelope) -> Entry:
    """Describe an event."""
    sentence = sentence_of(envelope)
    group = "|".join((envelope.type, str(envelope.resource or ""), sentence.text))
    return Entry(
        id=envelope.id,
        time=envelope.time,
        type=envelope.type,
        severity=sentence.severity,
        icon=sentence.icon,
        parts=sentence.parts,
        group=quote(group[:300], safe=""),
        is_verified=envelope.actor_verified,
        resource=envelope.resource,
        correlation_id=envelope.correlation_id,
        causation_id=envelope.causation_id,
    )


def grouped(entries: list[Entry]) -> list[Group]:
    """Put consecutive events that say the same together. Newest first, in and out."""
    groups: list[Group] = []
    for entry in entries:
        if groups and groups[-1].first.group == entry.group:
            groups[-1].others.append(entry)
        else:
            groups.append(Group(entry, []))
    return groups


def envelope_of(event: HistoryEvent) -> Envelope:
    """Return the envelope of a stored event, as far as a page shows it."""
    data = event.data if event.has_data and event.data_base64 is None else NO_DATA
    return Envelope(
        id=event.id,
        type=event.type,
        time=event.time,
        source=event.source,
        category=event.category,
        severity=event.severity,
        actor=_actor(event),
        actor_verified=event.actor_verified,
        resource=_resource(event),
        correlation_id=event.correlation_id,
        causation_id=event.causation_id,
        event=_typed(event.type, data),
        data=data,
        content_type=event.content_type,
        data_schema=event.data_schema,
        extensions=event.extensions,
        published_id=event.published_id,
        published_time=event.published_time,
        subject=event.subject,
        has_time=event.has_time,
    )


def _actor(event: HistoryEvent) -> Actor | None:
    if event.actor_type is None or event.actor_id is None:
        return None
    try:
        return msgspec.convert({"type": event.actor_type, "id": event.actor_id}, Actor)
    except msgspec.ValidationError:
        return None


def _resource(event: HistoryEvent) -> Resource | None:
    if event.resource_type is None or event.resource_id is None:
        return None
    return Resource(event.resource_type, event.resource_id)


def _typed(event_type: str, data: msgspec.Raw) -> Event | None:
    event_class = EVENT_TYPES.get(event_type)
    if event_class is None or not data:
        return None
    try:
        return msgspec.json.decode(data, type=event_class)
    except _NOT_TYPED:
        return None
