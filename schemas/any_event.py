"""Decode any valid CloudEvent, attribute by attribute: structured JSON and binary mode."""

import datetime
import re
from collections.abc import Callable, Mapping
from typing import Any, Final
from uuid import NAMESPACE_URL, UUID, uuid5

import msgspec

from mediabus.schemas import binary_mode
from mediabus.schemas.decoding import NOT_JSON
from mediabus.schemas.encoding import SCHEMAS, encode_any, refuse_unstorable
from mediabus.schemas.envelope import JSON, Envelope
from mediabus.schemas.events import EVENT_TYPES, Event
from mediabus.schemas.identity import Actor, Resource
from mediabus.schemas.wire import KNOWN, CloudEvent, InvalidEvent, links_of

ANY_CATEGORY: Final = "other"
"""The category of an unregistered type without a category."""

Moment = Callable[[], datetime.datetime]
"""Returns when a message was stored in its stream: the time of an event without one."""


_decode_cloud_event: Final = msgspec.json.Decoder(CloudEvent).decode
_decode_members: Final = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_decode_value: Final = msgspec.json.Decoder().decode
DECODE_DATA: Final[dict[str, Callable[[msgspec.Raw], Event]]] = {
    name: msgspec.json.Decoder(event_class).decode for name, event_class in EVENT_TYPES.items()
}
"""Decodes the data of each registered type."""


def structured(
    payload: bytes, published_at: Moment | None, *, trust_actor: bool
) -> tuple[Envelope, bool]:
    """Decode structured JSON. Return also whether it falsely claims a verified actor."""
    try:
        payload.decode()
        members = _members(payload)
        wire = _decode_cloud_event(payload)
        extensions = {
            name: value
            for name, raw in members.items()
            if name not in KNOWN and (value := _decode_value(raw)) is not None
        }
    except NOT_JSON as error:
        raise InvalidEvent(f"not a CloudEvents 1.0 envelope: {error}") from error
    if wire.data and "data_base64" in members:
        raise InvalidEvent("data and data_base64 exclude each other: publish one of them")
    envelope = _general(
        wire, extensions, members.get("time"), published_at, trust_actor=trust_actor
    )
    return envelope, "actorverified" in members and not envelope.actor_verified


def _members(payload: bytes) -> dict[str, msgspec.Raw]:
    if payload.lstrip()[:1] == b"[":
        raise InvalidEvent(
            "not a CloudEvents 1.0 envelope: this is a batch (a JSON array). Publish each event "
            "as a message of its own"
        )
    return _decode_members(payload)


def binary(
    body: bytes, headers: Mapping[str, str], published_at: Moment | None, *, trust_actor: bool
) -> Envelope:
    """Decode an event in binary mode."""
    attributes = binary_mode.attributes_of(headers)
    known = {name: value for name, value in attributes.items() if name in KNOWN}
    verified = known.get("actorverified")
    known["actorverified"] = {"true": True, "false": False}.get(str(verified), verified)
    try:
        wire = msgspec.convert(known, CloudEvent)
    except msgspec.ValidationError as error:
        raise InvalidEvent(f"not a CloudEvents 1.0 envelope: {error}") from error
    is_registered = wire.type in EVENT_TYPES
    if is_registered and wire.datacontenttype is None:
        wire.datacontenttype = JSON
    is_json = is_registered and binary_mode.declares_json(wire.datacontenttype)
    wire.data, wire.data_base64 = binary_mode.data_of(body, wire.datacontenttype, is_json=is_json)
    extensions = {name: value for name, value in attributes.items() if name not in KNOWN}
    envelope = _general(wire, extensions, known.get("time"), published_at, trust_actor=trust_actor)
    refuse_unstorable(encode_any(envelope))
    return envelope


def is_spelled(subject: str | None) -> bool:
    """Return whether a subject has the form ``<kind>/<id>``."""
    if subject is None:
        return True
    kind, _, resource_id = subject.partition("/")
    return bool(kind and resource_id)


def _general(
    wire: CloudEvent,
    extensions: dict[str, Any],
    time: object,
    published_at: Moment | None,
    *,
    trust_actor: bool,
) -> Envelope:
    """Create the envelope of any event. ``time`` is the attribute as it was published."""
    event_id, published_id = _key(wire)
    content_type = wire.datacontenttype
    if content_type is None and wire.data:
        content_type = JSON  # the default of CloudEvents for JSON data
    event = _event(wire, content_type)
    moment = wire.time or (published_at() if published_at else datetime.datetime.now(datetime.UTC))
    return Envelope(
        id=event_id,
        type=wire.type,
        time=moment,
        source=wire.source,
        category=wire.category or (event.category if event else ANY_CATEGORY),
        severity=wire.severity or (event.severity if event else "info"),
        actor=_actor(wire.actortype, wire.actorid),
        actor_verified=bool(wire.actorverified) and trust_actor,
        resource=_resource(wire.type, wire.subject),
        **links_of(wire),
        event=event,
        data=wire.data,
        data_bytes=wire.data_base64,
        content_type=content_type,
        data_schema=None if wire.dataschema == SCHEMAS.get(wire.type) else wire.dataschema,
        extensions=extensions,
        published_id=published_id,
        published_time=_finer_time(time),
        subject=None if is_spelled(wire.subject) else wire.subject,
        has_time=wire.time is not None,
    )


def _key(wire: CloudEvent) -> tuple[UUID, str | None]:
    """Return the UUID of an event, and its published id if that is not the UUID itself.

    Two sources may use the same id, so a UUID is derived from the id and the source.
    """
    try:
        key = msgspec.convert(wire.id, UUID)
    except msgspec.ValidationError:
        return uuid5(uuid5(NAMESPACE_URL, wire.source), wire.id), wire.id
    return key, None if str(key) == wire.id else wire.id


_SUB_MICROSECOND: Final = re.compile(r"\.\d{6}0*[1-9]")


def _finer_time(time: object) -> str | None:
    """Return the published time if it has more digits than a datetime can hold."""
    text = bytes(time).decode().strip('"') if isinstance(time, msgspec.Raw) else str(time)
    return text if _SUB_MICROSECOND.search(text) else None


def _event(wire: CloudEvent, content_type: str | None) -> Event | None:
    """Decode the data of a registered type; None for any other type."""
    if wire.data_base64 is None:
        is_json = content_type is None or binary_mode.declares_json(content_type)
        data = wire.data
    else:
        is_json = binary_mode.declares_json(content_type)
        data = msgspec.Raw(wire.data_base64)
    if wire.type not in EVENT_TYPES:
        _check(wire.type, wire.data)
        return None
    if not is_json:
        raise InvalidEvent(f"data of {wire.type}: expected JSON, got {content_type or 'bytes'}")
    category = wire.category or EVENT_TYPES[wire.type].category
    return _typed(wire.type, category, data or msgspec.Raw(b"{}"))


def _typed(event_type: str, category: str, data: msgspec.Raw) -> Event:
    try:
        event = DECODE_DATA[event_type](data)
    except NOT_JSON as error:
        raise InvalidEvent(f"data of {event_type}: {error}") from error
    if category != event.category:
        raise InvalidEvent(
            f"{event_type} belongs to the category {event.category}, not {category}: leave the "
            "category out, or publish a type of your own"
        )
    return event


def _check(event_type: str, data: msgspec.Raw) -> None:
    """Raise InvalidEvent for data that consumers cannot decode."""
    if not data:
        return
    try:
        _decode_value(data)
    except NOT_JSON as error:
        raise InvalidEvent(f"data of {event_type}: {error}") from error


def _actor(kind: Any, actor_id: str | None) -> Actor | None:  # noqa: ANN401 - validated already
    if kind is None and actor_id is None:
        return None
    if kind is None or actor_id is None:
        raise InvalidEvent("actortype and actorid belong together: set both or neither")
    return Actor(kind, actor_id)


def _resource(event_type: str, subject: str | None) -> Resource | None:
    if subject is None:
        return None
    kind, _, resource_id = subject.partition("/")
    if kind and resource_id:
        return Resource(kind, resource_id)
    kind = event_type.partition(".")[0] or event_type
    return Resource(kind.replace("/", "_"), subject)  # "/" ends a kind
