"""The envelope of an event: the attributes of CloudEvents 1.0, typed."""

import datetime
from typing import Any, Final, Self, TypedDict, Unpack
from uuid import UUID

import msgspec

from mediabus.schemas import trace
from mediabus.schemas.events import Event, Severity
from mediabus.schemas.identity import Actor, ProvenActor, Resource, uuid7

JSON: Final = "application/json"
NO_DATA: Final = msgspec.Raw(b"")


class Links(TypedDict, total=False):
    """What an event is about, and what it belongs to.

    Events of one cause share a ``correlation_id``. ``causation_id`` is the id of the event or
    request that led to this one.
    """

    resource: Resource | None
    correlation_id: str | None
    causation_id: str | None


class Envelope(msgspec.Struct, frozen=True, kw_only=True):
    """One event as it travels: a CloudEvent, kept whole.

    ``event`` is the typed data, or None if the type is not registered: other programs may publish
    their own types. ``data`` is the published JSON with unknown fields; it is empty (``NO_DATA``)
    if there is no data, or if the data is in ``data_bytes``.
    ``correlation_id`` is shared by all events of one cause; ``causation_id`` is the event or
    request that led to this one. ``actor_verified`` is True if a key proves the actor, and False
    if the publisher only claims it.

    ``extensions`` are the attributes that have no field here. The last four fields keep what the
    fields above cannot: ``published_id`` is an id that is not a UUID (``id`` is then derived from
    it and the source), ``published_time`` is a time finer than microseconds, ``subject`` is one
    that ``resource`` does not spell, and ``has_time`` is False if the event has no time and
    ``time`` is that of its message.

    >>> event = mediabus.events.JobExecuted(job_name="scan", duration_ms=812)
    >>> envelope = mediabus.Envelope.of(event, actor=mediabus.Actor("job", "scan"))
    >>> envelope.type, envelope.event.job_name, str(envelope.actor)
    ('job.executed', 'scan', 'job:scan')
    """

    id: UUID
    type: str
    time: datetime.datetime
    source: str
    category: str
    severity: Severity
    actor: Actor | None = None
    actor_verified: bool = False
    resource: Resource | None = None
    correlation_id: str | None = None
    causation_id: str | None = None
    event: Event | None = None
    data: msgspec.Raw = NO_DATA
    data_bytes: bytes | None = None
    content_type: str | None = JSON
    data_schema: str | None = None
    extensions: dict[str, Any] = {}
    published_id: str | None = None
    published_time: str | None = None
    subject: str | None = None
    has_time: bool = True

    @classmethod
    def of(
        cls,
        event: Event,
        *,
        actor: Actor,
        **links: Unpack[Links],
    ) -> Self:
        """Create the envelope of an event that happens now, in the current trace."""
        event_id = uuid7()
        return cls(
            id=event_id,
            type=event.type,
            time=datetime.datetime.now(datetime.UTC),
            source=f"mediabus/{event.category}",
            category=event.category,
            severity=event.severity,
            actor=Actor(actor.type, actor.id),
            actor_verified=isinstance(actor, ProvenActor),
            event=event,
            data=msgspec.Raw(msgspec.json.encode(event)),
            extensions=trace.current(),
            **links,
        )

    def value(self) -> Any:  # noqa: ANN401 - any JSON value
        """Return the published data: JSON values, bytes, or None if there is no data."""
        if self.data_bytes is not None:
            return self.data_bytes
        return msgspec.json.decode(self.data) if self.data else None

    def fields(self) -> dict[str, Any]:
        """Return the fields of the published data; none if it is not a JSON object."""
        value = self.value()
        return value if isinstance(value, dict) else {}
