"""The JSON of a CloudEvent: one field for each attribute."""

import datetime
from typing import Annotated, Any, Final, Literal
from uuid import UUID

import msgspec

from mediabus.schemas.envelope import NO_DATA
from mediabus.schemas.events import Severity
from mediabus.schemas.identity import ActorId, ActorType

CONTENT_TYPE: Final = "application/cloudevents+json"
MAX_EVENT_BYTES: Final = 1_000_000
"""Just under the 1 MiB that a NATS server accepts by default, headers included."""

Text = Annotated[str, msgspec.Meta(min_length=1, max_length=1024)]
AnyLengthText = Annotated[str, msgspec.Meta(min_length=1)]
"""For attributes whose length 0.1.0 did not limit. ``MAX_EVENT_BYTES`` limits the whole event."""
TypeName = Annotated[str, msgspec.Meta(min_length=1, max_length=255)]
Timestamp = Annotated[datetime.datetime, msgspec.Meta(tz=True)]


class InvalidEvent(ValueError):
    """A message is not a valid event. The message of the error names the field and the reason.

    >>> async with mediabus.connect(actor=mediabus.Actor("job", "scan")) as bus:
    ...     try:
    ...         await bus.publish(mediabus.events.JobExecuted(job_name="x" * 2_000_000))
    ...     except mediabus.InvalidEvent as error:
    ...         print("too large:", error)
    """


class CloudEvent(msgspec.Struct, kw_only=True, omit_defaults=True):
    """The JSON of an envelope, under the names of CloudEvents.

    Members that are not named here are extension attributes.
    """

    specversion: Literal["1.0"]
    id: Text
    source: Text
    type: TypeName
    subject: Text | None = None
    time: Timestamp | None = None
    datacontenttype: AnyLengthText | None = None
    dataschema: AnyLengthText | None = None
    category: Text | None = None
    severity: Severity | None = None
    actortype: ActorType | None = None
    actorid: ActorId | None = None
    actorverified: bool | None = None
    correlationid: Text | None = None
    causationid: Text | None = None
    data: msgspec.Raw = NO_DATA
    data_base64: bytes | None = None


LINKS: Final = {"correlationid": "correlation_id", "causationid": "causation_id"}
"""The attributes that an envelope keeps as they are, and their names there."""

KNOWN: Final = frozenset(CloudEvent.__struct_fields__)


class PlainEvent(msgspec.Struct, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """The JSON that ``codec.encode`` writes for most registered events, decoded in one pass.

    The id is a UUID, and there are no extension attributes.
    """

    specversion: Literal["1.0"]
    id: UUID
    source: Text
    type: TypeName
    subject: Text | None = None
    time: Timestamp
    datacontenttype: Literal["application/json"]
    dataschema: AnyLengthText
    category: Text
    severity: Severity
    actortype: ActorType | None = None
    actorid: ActorId | None = None
    actorverified: bool = False
    correlationid: Text | None = None
    causationid: Text | None = None
    data: msgspec.Raw


def links_of(wire: CloudEvent | PlainEvent) -> dict[str, Any]:
    """Return the attributes of ``LINKS`` under their names in an envelope."""
    return {field: getattr(wire, name) for name, field in LINKS.items()}
