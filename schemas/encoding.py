"""Encode an envelope: the members of its JSON object, in the order in which they are written."""

import re
from typing import Any, Final

import msgspec

from mediabus.schemas.envelope import Envelope
from mediabus.schemas.events import EVENT_TYPES
from mediabus.schemas.wire import LINKS, MAX_EVENT_BYTES, InvalidEvent

encode_value: Final = msgspec.json.Encoder().encode

SCHEMAS: Final = {
    name: f"mediabus:{name}:{event_class.version}" for name, event_class in EVENT_TYPES.items()
}
"""The ``dataschema`` of each registered type."""

_ESCAPED_NUL: Final = re.compile(rb"(?<!\\)(?:\\\\)*\\u0000")
"""An escaped NUL, and not a backslash that is itself escaped and followed by "u0000"."""


def encode_any(envelope: Envelope) -> bytes:
    """Encode an envelope as CloudEvents JSON of any size."""
    return encode_value(_attributes(envelope))


def _attributes(envelope: Envelope) -> dict[str, Any]:
    """Return the members of the JSON object, in the order in which they are written."""
    members = _standard(envelope)
    members["category"], members["severity"] = envelope.category, envelope.severity
    if envelope.actor is not None:
        members["actortype"], members["actorid"] = envelope.actor.type, envelope.actor.id
    if envelope.actor_verified:
        members["actorverified"] = True
    for name, field in LINKS.items():
        if (value := getattr(envelope, field)) is not None:
            members[name] = value
    for name in sorted(envelope.extensions):
        members[name] = envelope.extensions[name]
    if envelope.data_bytes is not None:
        members["data_base64"] = envelope.data_bytes
    elif envelope.data:
        members["data"] = envelope.data
    return members


def _standard(envelope: Envelope) -> dict[str, Any]:
    """Return the attributes that CloudEvents defines."""
    members: dict[str, Any] = {
        "specversion": "1.0",
        "id": envelope.published_id or envelope.id,
        "source": envelope.source,
        "type": envelope.type,
    }
    if envelope.resource is not None:
        members["subject"] = envelope.subject or str(envelope.resource)
    if envelope.has_time:
        members["time"] = envelope.published_time or envelope.time
    if envelope.content_type is not None:
        members["datacontenttype"] = envelope.content_type
    schema = envelope.data_schema or SCHEMAS.get(envelope.type)
    if schema is not None:
        members["dataschema"] = schema
    return members


def refuse_unstorable(payload: bytes) -> None:
    """Raise InvalidEvent for an event that is too large, or that PostgreSQL cannot store."""
    if is_storable(payload):
        return
    if len(payload) > MAX_EVENT_BYTES:
        raise InvalidEvent(f"{len(payload)} bytes: an event may have {MAX_EVENT_BYTES}")
    raise InvalidEvent("a string contains the character NUL, which PostgreSQL cannot store")


def is_storable(payload: bytes) -> bool:
    """Return whether an event is small enough, and no string of it contains NUL."""
    has_nul = b"\\" in payload and _ESCAPED_NUL.search(payload)  # most payloads have no escape
    return len(payload) <= MAX_EVENT_BYTES and not has_nul
