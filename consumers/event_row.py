"""A row of the table ``events``: the only place that lists its columns."""

import datetime
import re
from collections.abc import Mapping
from typing import Any, Final, Self
from uuid import UUID

import asyncpg
import msgspec

from mediabus.schemas import binary_mode, codec
from mediabus.schemas.any_event import Moment
from mediabus.schemas.codec import Sent
from mediabus.schemas.envelope import JSON, Envelope
from mediabus.schemas.events import EVENT_TYPES, Severity
from mediabus.schemas.identity import Actor, ActorType, Resource
from mediabus.schemas.wire import PlainEvent

COLUMNS: Final = {
    "id": "uuid",
    "occurred_at": "timestamptz",
    "stream_seq": "bigint",
    "category": "text",
    "type": "text",
    "severity": "text",
    "source": "text",
    "actor_type": "text",
    "actor_id": "text",
    "actor_verified": "boolean",
    "resource_type": "text",
    "resource_id": "text",
    "correlation_id": "text",
    "causation_id": "text",
    "data": "jsonb",
    "extensions": "jsonb",
    "published_id": "text",
    "message": "bytea",
}
"""The columns of an event and their types. ``recorded_at`` has a default and is not listed."""

NAMES: Final = ", ".join(COLUMNS)
TYPED: Final = ", ".join(f"{name} {kind}" for name, kind in COLUMNS.items())
"""The column definitions for ``json_to_recordset``."""

SELECTED: Final = NAMES.replace(
    " data,", " CASE WHEN message IS NULL THEN data::text ELSE 'null' END AS data,"
)
"""The columns in a SELECT. The data is read as text, because Python would round large numbers, and
not at all if ``message`` has it: PostgreSQL writes out a number such as 1e300."""

EMPTY: Final = msgspec.Raw(b"{}")
NO_COLUMN: Final = (msgspec.Raw(b""), msgspec.Raw(b"null"))
"""Data that the column, which is NOT NULL, cannot hold. Such data is in ``message``."""

_AS_JSON: Final = (str, bool, int)
"""Attributes of these types survive ``jsonb`` unchanged."""

ALWAYS_SMALL: Final = 8192
"""Bytes of typed data that cannot grow too large in PostgreSQL: a float has at most 309 digits."""

_EXPONENT: Final = re.compile(rb"[0-9][eE]([+-]?[0-9]{1,3})")
_encode: Final = msgspec.json.Encoder().encode


class EventRow(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """An event as the columns of ``events``.

    ``message`` is the original message in PostgreSQL's hexadecimal format. It is set only if the
    other columns cannot reproduce its bytes: ``jsonb`` reorders keys and respells numbers.
    """

    id: UUID
    occurred_at: datetime.datetime
    stream_seq: int | None
    category: str
    type: str
    severity: Severity
    source: str
    actor_type: ActorType | None = None
    actor_id: str | None = None
    actor_verified: bool
    resource_type: str | None = None
    resource_id: str | None = None
    correlation_id: str | None = None
    causation_id: str | None = None
    data: msgspec.Raw
    extensions: dict[str, Any] | None = None
    published_id: str | None = None
    message: str | None = None
    has_time: bool = True
    """Whether ``occurred_at`` is the event's own time, not that of its message. Not a column."""

    @classmethod
    def decode(
        cls,
        payload: bytes,
        headers: Mapping[str, str] | None,
        stream_seq: int,
        *,
        published_at: Moment,
        trust_actor: bool,
    ) -> Self:
        """Build the row of a message. The arguments are those of ``codec.read``.

        Most rows are built without an ``Envelope``, which takes as long as everything else here.

        Raises:
            InvalidEvent: the message is not a valid event.
        """
        plain = codec.plain(payload, headers, trust_actor=trust_actor)
        if plain is not None and _is_kept_by_columns(plain):
            return cls._of_plain(plain, stream_seq)
        envelope, sent = codec.read(
            payload, headers, published_at=published_at, trust_actor=trust_actor
        )
        return cls.of(envelope, stream_seq, sent)

    @classmethod
    def _of_plain(cls, event: PlainEvent, stream_seq: int) -> Self:
        resource_type, _, resource_id = (event.subject or "").partition("/")
        return cls(
            id=event.id,
            occurred_at=event.time,
            stream_seq=stream_seq,
            category=event.category,
            type=event.type,
            severity=event.severity,
            source=event.source,
            actor_type=event.actortype,
            actor_id=event.actorid,
            actor_verified=event.actorverified,
            resource_type=resource_type or None,
            resource_id=resource_id or None,
            correlation_id=event.correlationid,
            causation_id=event.causationid,
            data=event.data,
        )

    @classmethod
    def of(cls, envelope: Envelope, stream_seq: int, sent: Sent | None = None) -> Self:
        """Build the row of an event.

        ``sent`` is its message if ``codec.encode`` would produce other bytes.
        """
        actor, resource = envelope.actor, envelope.resource
        message = _message(envelope, sent)
        return cls(
            id=envelope.id,
            occurred_at=envelope.time,
            stream_seq=stream_seq,
            category=envelope.category,
            type=envelope.type,
            severity=envelope.severity,
            source=envelope.source,
            actor_type=actor.type if actor else None,
            actor_id=actor.id if actor else None,
            actor_verified=envelope.actor_verified,
            resource_type=resource.type if resource else None,
            resource_id=resource.id if resource else None,
            correlation_id=envelope.correlation_id,
            causation_id=envelope.causation_id,
            data=EMPTY if envelope.data in NO_COLUMN else envelope.data,
            extensions=envelope.extensions or None,
            published_id=envelope.published_id,
            message=None if message is None else f"\\x{message.hex()}",
            has_time=envelope.has_time,
        )

    def values(self) -> tuple[Any, ...]:
        """Return the values of ``COLUMNS``, as asyncpg encodes them."""
        return (
            self.id,
            self.occurred_at,
            self.stream_seq,
            self.category,
            self.type,
            self.severity,
            self.source,
            self.actor_type,
            self.actor_id,
            self.actor_verified,
            self.resource_type,
            self.resource_id,
            self.correlation_id,
            self.causation_id,
            str(self.data, "utf-8"),
            None if self.extensions is None else _encode(self.extensions).decode(),
            self.published_id,
            None if self.message is None else self._message_bytes(),
        )

    @classmethod
    def read(cls, record: asyncpg.Record) -> Self:
        """Build a row from a record that was selected with ``SELECTED``."""
        values = {name: record[name] for name in COLUMNS}
        message = values["message"]
        # PostgreSQL inserts blanks, which could make an event too large: remove them.
        values["data"] = msgspec.Raw(msgspec.json.format(values["data"], indent=-1).encode())
        values["message"] = None if message is None else f"\\x{message.hex()}"
        return cls(**values)

    def sent(self) -> Sent:
        """Return the message of the event, byte for byte as it was published."""
        if self.message is None:
            return Sent(codec.encode_any(self.envelope()))
        headers, payload = binary_mode.unpack(self._message_bytes())
        return Sent(payload, headers)

    def envelope(self) -> Envelope:
        """Return the event as consumers received it."""
        if self.message is not None:
            payload, headers = self.sent()
            whole = codec.decode(payload, headers, published_at=lambda: self.occurred_at)
            return msgspec.structs.replace(whole, actor_verified=self.actor_verified)
        return Envelope(
            id=self.id,
            type=self.type,
            time=self.occurred_at,
            source=self.source,
            category=self.category,
            severity=self.severity,
            actor=Actor(self.actor_type, self.actor_id or "") if self.actor_type else None,
            actor_verified=self.actor_verified,
            resource=Resource(self.resource_type, self.resource_id or "")
            if self.resource_type
            else None,
            correlation_id=self.correlation_id,
            causation_id=self.causation_id,
            data=self._published_data(),
            extensions=self.extensions or {},
        )

    def _message_bytes(self) -> bytes:
        return bytes.fromhex((self.message or "")[2:])

    def _published_data(self) -> msgspec.Raw:
        """Return the data with its fields in the order in which ``Envelope.of`` writes them.

        An event of the first release may have more fields than its type. Then the order is that of
        PostgreSQL.
        """
        event_class = EVENT_TYPES.get(self.type)
        if event_class is None:
            return self.data
        try:
            typed = _encode(msgspec.json.decode(self.data, type=event_class))
        except msgspec.DecodeError:
            return self.data
        is_same = msgspec.json.decode(typed) == msgspec.json.decode(self.data)
        return msgspec.Raw(typed) if is_same else self.data


def _is_kept_by_columns(event: PlainEvent) -> bool:
    """Return whether the columns without ``message`` can reproduce a message in plain form."""
    return event.time.tzinfo is datetime.UTC and not _grows_too_large(event.data)


def _message(envelope: Envelope, sent: Sent | None) -> bytes | None:
    """Return the message to store next to the columns, or None if the columns are enough."""
    if sent is None:
        is_in_columns = _is_in_columns(envelope) and not _grows_too_large(envelope.data or EMPTY)
        return None if is_in_columns else codec.encode_any(envelope)
    payload, headers = sent
    if binary_mode.is_binary(headers):
        claim = "" if envelope.actor_verified else "ce-actorverified"
        return binary_mode.pack(headers or {}, payload, without=claim)
    return payload


def _grows_too_large(data: bytes) -> bool:
    """Return whether data may exceed the size of an event once PostgreSQL writes its numbers."""
    if len(data) <= ALWAYS_SMALL:
        return False
    exponents = (abs(int(found[1])) for found in _EXPONENT.finditer(data))
    return len(data) + sum(exponents) > codec.MAX_EVENT_BYTES


def _is_in_columns(envelope: Envelope) -> bool:
    """Return whether the columns without ``message`` can reproduce the event."""
    return (
        envelope.event is not None
        and envelope.has_time
        and envelope.time.tzinfo is datetime.UTC
        and envelope.data_bytes is None
        and envelope.content_type == JSON
        and envelope.data_schema is None
        and envelope.published_id is None
        and envelope.published_time is None
        and envelope.subject is None
        and not (envelope.extensions and _has_odd_values(envelope.extensions))
    )


def _has_odd_values(extensions: dict[str, Any]) -> bool:
    """Return whether ``jsonb`` would change the spelling of a value."""
    return not all(isinstance(value, _AS_JSON) for value in extensions.values())
