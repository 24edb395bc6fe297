"""The envelope around every event: who, what, when and why, in CloudEvents 1.0 terms."""

import datetime
from typing import Any, Self
from uuid import UUID

import msgspec

from schemas.events import Event, Severity
from schemas.identity import Actor, Resource, uuid7


class Envelope(msgspec.Struct, frozen=True, kw_only=True):
    """One event as it travels.

    ``event`` is the typed data, or None where the type is not registered here (other programs
    may say things of their own); ``data`` is what was published, unknown fields included.
    ``correlation_id`` is shared by all events of one cause; ``causation_id`` is the event or
    request that led to this one.
    """

    id: UUID
    type: str
    time: datetime.datetime
    source: str
    category: str
    severity: Severity
    actor: Actor | None = None
    resource: Resource | None = None
    correlation_id: str | None = None
    causation_id: str | None = None
    event: Event | None = None
    data: msgspec.Raw = msgspec.Raw(b"{}")

    @classmethod
    def of(
        cls,
        event: Event,
        *,
        actor: Actor,
        resource: Resource | None = None,
        correlation_id: str | None = None,
        causation_id: str | None = None,
    ) -> Self:
        """The envelope of an event that happens now."""
        event_id = uuid7()
        return cls(
            id=event_id,
            type=event.type,
            time=datetime.datetime.now(datetime.UTC),
            source=f"mediabus/{event.category}",
            category=event.category,
            severity=event.severity,
            actor=actor,
            resource=resource,
            correlation_id=correlation_id,
            causation_id=causation_id,
            event=event,
            data=msgspec.Raw(msgspec.json.encode(event)),
        )

    def fields(self) -> dict[str, Any]:
        """The published data as plain values."""
        decoded: dict[str, Any] = msgspec.json.decode(self.data)
        return decoded
