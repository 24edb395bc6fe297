"""Bytes to envelope and back: CloudEvents 1.0 as structured JSON, binary mode on the way in."""

import datetime
import re
from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal
from uuid import UUID

import msgspec

from schemas.envelope import Envelope
from schemas.events import EVENT_TYPES, Event, Severity
from schemas.identity import Actor, ActorId, ActorType, Resource

CONTENT_TYPE: Final = "application/cloudevents+json"
MAX_EVENT_BYTES: Final = 1_000_000
"""Just under the 1 MiB that a NATS server takes by default, headers included."""

ANY_CATEGORY: Final = "other"
"""The category of an unregistered type that does not name one."""

_Text = Annotated[str, msgspec.Meta(min_length=1, max_length=1024)]
_TypeName = Annotated[str, msgspec.Meta(min_length=1, max_length=255)]
_Timestamp = Annotated[datetime.datetime, msgspec.Meta(tz=True)]


class InvalidEvent(ValueError):
    """What was to be an event is none; the message says what is wrong and where."""


class CloudEvent(msgspec.Struct, kw_only=True, omit_defaults=True):
    """The envelope's JSON, attribute by attribute, under the names of CloudEvents."""

    specversion: Literal["1.0"]
    id: UUID
    source: _Text
    type: _TypeName
    subject: _Text | None = None
    time: _Timestamp
    datacontenttype: str | None = None
    dataschema: str | None = None
    category: _Text | None = None
    severity: Severity | None = None
    actortype: ActorType | None = None
    actorid: ActorId | None = None
    correlationid: _Text | None = None
    causationid: _Text | None = None
    data: msgspec.Raw = msgspec.Raw(b"{}")


_BROKEN: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""What msgspec raises of bytes that are not what they should be."""

_encode: Final = msgspec.json.Encoder().encode
_decode_wire: Final = msgspec.json.Decoder(CloudEvent).decode
_decode_object: Final = msgspec.json.Decoder(dict[str, Any]).decode
_decode_data: Final[dict[str, msgspec.json.Decoder[Event]]] = {
    name: msgspec.json.Decoder(event_class) for name, event_class in EVENT_TYPES.items()
}


def encode(envelope: Envelope) -> bytes:
    """The envelope as CloudEvents JSON. Raises InvalidEvent for what no database or server here
    could take: NUL in a string, or more than ``MAX_EVENT_BYTES``."""
    actor, resource = envelope.actor, envelope.resource
    encoded = _encode(
        CloudEvent(
            specversion="1.0",
            id=envelope.id,
            source=envelope.source,
            type=envelope.type,
            subject=str(resource) if resource else None,
            time=envelope.time,
            datacontenttype="application/json",
            dataschema=_schema_of(envelope.type),
            category=envelope.category,
            severity=envelope.severity,
            actortype=actor.type if actor else None,
            actorid=actor.id if actor else None,
            correlationid=envelope.correlation_id,
            causationid=envelope.causation_id,
            data=envelope.data,
        )
    )
    _refuse_unstorable(encoded)
    return encoded


def decode(payload: bytes, headers: Mapping[str, str] | None = None) -> Envelope:
    """The envelope of a message, structured or (with ``ce-*`` headers) binary. Raises InvalidEvent
    where the envelope, or the data of a registered type, breaks its schema."""
    if headers is not None and "ce-specversion" in headers:
        payload = _structured(payload, headers)
    _refuse_unstorable(payload)
    try:
        payload.decode()  # msgspec passes over the strings that no type asks for
        wire = _decode_wire(payload)
    except _BROKEN as error:
        raise InvalidEvent(f"not a CloudEvents 1.0 envelope: {error}") from error
    event = _typed(wire.type, wire.data)
    return Envelope(
        id=wire.id,
        type=wire.type,
        time=wire.time,
        source=wire.source,
        category=wire.category or (event.category if event else ANY_CATEGORY),
        severity=wire.severity or (event.severity if event else "info"),
        actor=_actor(wire),
        resource=_resource(wire),
        correlation_id=wire.correlationid,
        causation_id=wire.causationid,
        event=event,
        data=wire.data,
    )


def _typed(event_type: str, data: msgspec.Raw) -> Event | None:
    decoder = _decode_data.get(event_type)
    try:
        if decoder:
            return decoder.decode(data)
        _decode_object(data)
    except _BROKEN as error:
        raise InvalidEvent(f"data of {event_type}: {error}") from error
    return None


def _actor(wire: CloudEvent) -> Actor | None:
    if wire.actortype is None and wire.actorid is None:
        return None
    if wire.actortype is None or wire.actorid is None:
        raise InvalidEvent("actortype and actorid come together: say both or neither")
    return Actor(wire.actortype, wire.actorid)


def _resource(wire: CloudEvent) -> Resource | None:
    if wire.subject is None:
        return None
    kind, _, resource_id = wire.subject.partition("/")
    if kind and resource_id:
        return Resource(kind, resource_id)
    kind = wire.type.partition(".")[0] or wire.type
    return Resource(kind.replace("/", "_"), wire.subject)  # "/" is what ends a kind


def _schema_of(event_type: str) -> str | None:
    registered = EVENT_TYPES.get(event_type)
    return f"mediabus:{event_type}:{registered.version}" if registered else None


def _refuse_unstorable(payload: bytes) -> None:
    if len(payload) > MAX_EVENT_BYTES:
        raise InvalidEvent(f"{len(payload)} bytes: an event may have {MAX_EVENT_BYTES}")
    if _NUL in payload and _ESCAPED_NUL.search(payload):
        raise InvalidEvent("a string holds the character NUL, which PostgreSQL cannot store")


_NUL: Final = b"\\u0000"
# An escaped NUL, and not a backslash that is itself escaped and followed by "u0000".
_ESCAPED_NUL: Final = re.compile(rb"(?<!\\)(?:\\\\)*\\u0000")


def _structured(payload: bytes, headers: Mapping[str, str]) -> bytes:
    """A binary-mode message as structured JSON: attributes from the headers, data from the body."""
    attributes = {
        name[3:].lower(): value for name, value in headers.items() if name.startswith("ce-")
    }
    try:
        data = msgspec.Raw(payload) if _decode_object(payload or b"{}") else msgspec.Raw(b"{}")
    except _BROKEN as error:
        raise InvalidEvent(f"data is not a JSON object: {error}") from error
    return _encode({**attributes, "data": data})
