"""Encode and decode envelopes: CloudEvents 1.0 as structured JSON, and binary mode to decode.

A valid event keeps all its content. A message that ``encode`` wrote is decoded in one pass; any
other message is decoded attribute by attribute (``any_event``).
"""

from collections.abc import Mapping
from typing import Final, NamedTuple

import msgspec

from mediabus.schemas import binary_mode
from mediabus.schemas.any_event import (
    ANY_CATEGORY,
    DECODE_DATA,
    Moment,
    binary,
    is_spelled,
    structured,
)
from mediabus.schemas.decoding import NOT_JSON
from mediabus.schemas.encoding import (
    SCHEMAS,
    encode_any,
    encode_value,
    is_storable,
    refuse_unstorable,
)
from mediabus.schemas.envelope import Envelope
from mediabus.schemas.events import Event
from mediabus.schemas.identity import Actor, Resource
from mediabus.schemas.wire import (
    CONTENT_TYPE,
    MAX_EVENT_BYTES,
    CloudEvent,
    InvalidEvent,
    PlainEvent,
    links_of,
)

__all__ = [
    "ANY_CATEGORY",
    "CONTENT_TYPE",
    "MAX_EVENT_BYTES",
    "CloudEvent",
    "InvalidEvent",
    "Sent",
    "decode",
    "encode",
    "encode_any",
    "plain",
    "read",
]


class Sent(NamedTuple):
    """A message as it was received, if ``encode`` would write it differently."""

    payload: bytes
    headers: Mapping[str, str] | None = None


Decoded = tuple[Envelope, Sent | None]
"""The envelope of a message, and the message itself if ``encode`` would write it differently."""


_decode_plain: Final = msgspec.json.Decoder(PlainEvent).decode


def encode(envelope: Envelope) -> bytes:
    """Encode an envelope as CloudEvents JSON.

    Raises:
        InvalidEvent: A string contains NUL, which PostgreSQL cannot store, or the event has more
            than ``MAX_EVENT_BYTES``.
    """
    encoded = encode_any(envelope)
    refuse_unstorable(encoded)
    return encoded


def decode(
    payload: bytes,
    headers: Mapping[str, str] | None = None,
    *,
    published_at: Moment | None = None,
    trust_actor: bool = False,
) -> Envelope:
    """Decode a message in structured mode or, with ``ce-*`` headers, in binary mode.

    Args:
        published_at: Returns when the message was stored in its stream, which is the time of an
            event without one. Without this argument, that time is now.
        trust_actor: Whether only mediabus can have published the message, so its attribute
            ``actorverified`` counts. It is ignored otherwise.

    Raises:
        InvalidEvent: The envelope, or the data of a registered type, violates its schema.
    """
    envelope, _ = read(payload, headers, published_at=published_at, trust_actor=trust_actor)
    return envelope


def read(
    payload: bytes,
    headers: Mapping[str, str] | None = None,
    *,
    published_at: Moment | None = None,
    trust_actor: bool = False,
) -> Decoded:
    """Decode a message, and return it too if ``encode`` would not reproduce its bytes.

    A message that falsely claims a verified actor is not returned: it must not be published again.
    """
    if headers is not None and binary_mode.is_binary(headers):
        envelope = binary(payload, headers, published_at, trust_actor=trust_actor)
        return envelope, Sent(payload, headers)
    refuse_unstorable(payload)
    found = _plain(payload, trust_actor=trust_actor)
    if found is not None:
        return _envelope_of(*found), None
    envelope, claims_too_much = structured(payload, published_at, trust_actor=trust_actor)
    if claims_too_much or _is_as_encoded(envelope, payload):
        return envelope, None
    return envelope, Sent(payload)


def _is_as_encoded(envelope: Envelope, payload: bytes) -> bool:
    """Return whether ``encode`` reproduces the message, and its data is that of its typed event."""
    event = envelope.event
    if event is None or msgspec.Raw(encode_value(event)) != envelope.data:
        return False
    return encode_any(envelope) == payload


def plain(
    payload: bytes, headers: Mapping[str, str] | None = None, *, trust_actor: bool = False
) -> PlainEvent | None:
    """Decode a message in one pass if its bytes are what ``encode`` writes, as most are.

    Return None for any other message, which ``read`` decodes or refuses.
    """
    if binary_mode.is_binary(headers) or not is_storable(payload):
        return None
    found = _plain(payload, trust_actor=trust_actor)
    return found[0] if found else None


def _plain(payload: bytes, *, trust_actor: bool) -> tuple[PlainEvent, Event] | None:
    try:
        if not payload.isascii():
            payload.decode()  # msgspec does not check strings that no type needs
        wire = _decode_plain(payload)
        event = DECODE_DATA[wire.type](wire.data)
    except (*NOT_JSON, KeyError):
        return None
    data = wire.data
    wire.data = event  # type: ignore[assignment] # to compare the bytes of both encodings
    is_as_encoded = wire.dataschema == SCHEMAS[wire.type] and encode_value(wire) == payload
    wire.data = data
    if not is_as_encoded or not _is_consistent(wire, event):
        return None
    if wire.actorverified and not trust_actor:
        return None
    return wire, event


def _is_consistent(wire: PlainEvent, event: Event) -> bool:
    """Return whether the attributes agree with each other. For others, ``structured`` raises."""
    has_type, has_id = wire.actortype is not None, wire.actorid is not None
    return wire.category == event.category and has_type == has_id and is_spelled(wire.subject)


def _envelope_of(wire: PlainEvent, event: Event) -> Envelope:
    kind, _, resource_id = (wire.subject or "").partition("/")
    actor_type, actor_id = wire.actortype, wire.actorid
    return Envelope(
        id=wire.id,
        type=wire.type,
        time=wire.time,
        source=wire.source,
        category=wire.category,
        severity=wire.severity,
        actor=Actor(actor_type, actor_id) if actor_type and actor_id else None,
        actor_verified=wire.actorverified,
        resource=Resource(kind, resource_id) if kind else None,
        **links_of(wire),
        event=event,
        data=wire.data,
    )
