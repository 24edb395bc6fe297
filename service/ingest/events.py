"""Check events from the accounts of keys, set their actor and source, and store them.

The account of a key publishes to ``events.>`` like any other. NATS maps the subject to
``in.<actor type>.<actor id>.events.>``, so the actor comes from the key and not from the event. The
publisher gets the acknowledgement of JetStream once the event is stored.
"""

import hashlib
import logging
from collections.abc import Mapping
from typing import Final, get_args

import msgspec
from nats.aio.msg import Msg
from nats.errors import Error as NatsError
from nats.js.api import PubAck
from nats.js.errors import APIError

from mediabus.runtime import metrics
from mediabus.runtime.error_text import error_text
from mediabus.runtime.nats.bus import Bus
from mediabus.runtime.nats.once import acknowledged
from mediabus.schemas import codec, dead_letter_headers
from mediabus.schemas.envelope import Envelope
from mediabus.schemas.identity import Actor, ActorType, ProvenActor
from mediabus.schemas.subjects import (
    EVENTS_STREAM,
    Proven,
    dead_letter_subject,
    proven_by,
    token,
    type_of,
)
from mediabus.service.ingest.refusal import Refused

log: Final = logging.getLogger("mediabus.ingest")

NAME: Final = "ingest"
"""Consumer name of the dead letters written here."""

OWN_SOURCE: Final = "mediabus"
OWN_RESOURCES: Final = frozenset({"media_item", "download", "download_client"})
"""Resource types whose events only mediabus publishes."""

ACTOR_TYPES: Final = frozenset(get_args(ActorType))
"""How the sources of publishers with a key begin: see ``source_of``."""

MAX_SOURCE_LENGTH: Final = 1024
"""Characters of a source with the actor's name, as in any event."""
SUPPORTED_HEADERS: Final = frozenset({"nats-msg-id", "nats-request-info", "nats-expected-stream"})
"""Headers for the server that the service interprets itself."""

RETRYABLE: Final = (NatsError, APIError, TimeoutError)


async def ingest_event(bus: Bus, message: Msg) -> bytes:
    """Store the event of a message, and return the acknowledgement of JetStream.

    Raises:
        Refused: this actor may not publish the event, which was dead-lettered; or NATS is
            unavailable.
    """
    proven = proven_by(message.subject)
    if proven is None:
        raise Refused(400, f"the subject {message.subject} names no actor")
    try:
        envelope = accepted(proven, message.data, message.headers or {})
        payload = codec.encode(envelope)
    except codec.InvalidEvent as error:
        await _dead_letter(bus, message, str(error))
        metrics.INGESTED.labels("invalid").inc()
        raise Refused(400, str(error)) from error
    ack = await _stored(bus, message, proven, envelope, payload)
    metrics.INGESTED.labels("stored").inc()
    # Without ``duplicate``: the publisher would look up the event in a stream it cannot read.
    return msgspec.json.encode({"stream": ack.stream, "seq": ack.seq})


def accepted(proven: Proven, body: bytes, headers: Mapping[str, str]) -> Envelope:
    """Return the event to store, with the proven actor and a source that begins with its name.

    Raises:
        InvalidEvent: the actor may not publish the event.
    """
    unknown = [name for name in headers if _is_for_server(name)]
    if unknown:
        raise codec.InvalidEvent(f"the header {unknown[0]} is not allowed in events of a key")
    expected = _header(headers, "nats-expected-stream")
    if expected not in {None, EVENTS_STREAM}:
        raise codec.InvalidEvent(f"Nats-Expected-Stream: must be {EVENTS_STREAM}")
    envelope = codec.decode(body, headers)
    check_source(envelope.source)
    for event_type in (envelope.type, type_of(proven.subject) or ""):
        check_type(event_type)
    actor = proven.actor
    source = f"{source_of(actor)}/{envelope.source}"
    if len(source) > MAX_SOURCE_LENGTH:
        raise codec.InvalidEvent(
            f"source: with the actor's name it exceeds {MAX_SOURCE_LENGTH} characters"
        )
    return msgspec.structs.replace(
        envelope, actor=Actor(actor.type, actor.id), actor_verified=True, source=source
    )


def source_of(actor: ProvenActor) -> str:
    """Return the prefix of the sources of an actor's events."""
    return f"{actor.type}/{token(actor.id)}"


def _is_for_server(name: str) -> bool:
    return name.lower().startswith("nats-") and name.lower() not in SUPPORTED_HEADERS


def _header(headers: Mapping[str, str], name: str) -> str | None:
    return next((value for key, value in headers.items() if key.lower() == name), None)


def check_source(source: str) -> None:
    """Raise InvalidEvent for a source that is reserved for mediabus."""
    if source.casefold().partition("/")[0].strip() == OWN_SOURCE:
        raise codec.InvalidEvent(
            f"source {source!r}: only mediabus may use a source that begins with {OWN_SOURCE}/; "
            "use the name of your program"
        )


def check_unproven_source(source: str) -> None:
    """Raise InvalidEvent for a source that begins as those of publishers with a key do."""
    first, slash, _ = source.casefold().partition("/")
    if slash and first.strip() in ACTOR_TYPES:
        raise codec.InvalidEvent(
            f"source {source!r}: only a publisher with a key has a source that begins with "
            f"{first}/; use the name of your program"
        )


def check_type(event_type: str) -> None:
    """Raise InvalidEvent for a type that only mediabus publishes."""
    if event_type.partition(".")[0] in OWN_RESOURCES:
        raise codec.InvalidEvent(
            f"only mediabus publishes {event_type}; call the operation instead"
        )


async def _stored(
    bus: Bus, message: Msg, proven: Proven, envelope: Envelope, payload: bytes
) -> PubAck:
    published = _header(message.headers or {}, "nats-msg-id") or str(envelope.id)
    headers = {
        # Prefixed with the actor: no actor can make NATS drop an event of another as a duplicate.
        "Nats-Msg-Id": f"{source_of(proven.actor)}/{published}",
        "Content-Type": codec.CONTENT_TYPE,
    }
    try:
        return await acknowledged(bus.js, proven.subject, payload, headers, timeout=4)
    except RETRYABLE as error:
        metrics.INGESTED.labels("unavailable").inc()
        why = error_text(error)
        raise Refused(
            503, f"{EVENTS_STREAM} did not store the event, publish it again: {why}"
        ) from error


async def _dead_letter(bus: Bus, message: Msg, reason: str) -> None:
    """Dead-letter a rejected message unchanged.

    Raises:
        Refused: the dead letter cannot be stored.
    """
    headers = dead_letter_headers.addressed(
        message.headers,
        consumer=NAME,
        kind="invalid",
        reason=reason,
        subject=message.subject,
        stream=EVENTS_STREAM,
        stream_seq=0,
        deliveries=1,
    )
    first_id = dead_letter_headers.message_id_of(headers)
    if first_id is not None:  # a retry that is rejected again is the same dead letter
        headers[dead_letter_headers.MESSAGE_ID] = first_id
    identity = f"{message.subject}\n{first_id}\n".encode() + message.data
    headers["Nats-Msg-Id"] = f"{NAME}.{hashlib.sha256(identity).hexdigest()}"
    try:
        await acknowledged(bus.js, dead_letter_subject(NAME, "invalid"), message.data, headers)
    except RETRYABLE as error:
        raise Refused(503, f"cannot store a dead letter: {error or 'timeout'}") from error
    log.warning("event rejected", extra={"subject": message.subject, "reason": reason})
