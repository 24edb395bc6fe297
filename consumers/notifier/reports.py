"""The events about deliveries: made with the state, and published until NATS has stored them."""

import logging
from typing import Final

import msgspec
from nats.js.errors import NotFoundError

from mediabus.runtime.nats.bus import Bus, PublishFailed
from mediabus.runtime.nats.stream_reader import stored_messages
from mediabus.schemas import codec
from mediabus.schemas.envelope import Envelope
from mediabus.schemas.events import Event
from mediabus.schemas.identity import Actor, Resource
from mediabus.schemas.subjects import EVENTS_STREAM, filter_for, subject_of

log: Final = logging.getLogger("mediabus.notifier")

ACTOR: Final = Actor("system", "notifier")
TARGET: Final = "target"
"""The type of the resource."""


def report(target: str, event: Event, cause: Envelope) -> msgspec.Raw:
    """Return an event about a target, caused by the event ``cause``."""
    envelope = Envelope.of(
        event,
        actor=ACTOR,
        resource=Resource(TARGET, target),
        correlation_id=cause.correlation_id,
        causation_id=cause.published_id or str(cause.id),
    )
    return msgspec.Raw(codec.encode(envelope))


async def publish(bus: Bus, reports: tuple[msgspec.Raw, ...]) -> bool:
    """Publish reports in order. Returns whether NATS has stored all of them."""
    try:
        for one in reports:
            await bus.publish_envelope(codec.decode(bytes(one), trust_actor=True))
    except PublishFailed as error:
        log.warning("report not published, will retry", extra={"error": str(error)})
        return False
    return True


async def is_published(bus: Bus, one: msgspec.Raw) -> bool:
    """Return whether the newest event of its type and target is this report.

    Raises nats-py's errors.
    """
    envelope = codec.decode(bytes(one), trust_actor=True)
    try:
        newest = await bus.js.get_last_msg(EVENTS_STREAM, subject_of(envelope), direct=True)
    except NotFoundError:
        return False
    return newest.data == codec.encode(envelope)


async def was_delivered(bus: Bus, target: str, event_id: str) -> bool:
    """Return whether the stream reports a delivery of this event to the target.

    Raises TimeoutError and nats-py's errors.
    """
    subjects = filter_for(
        category="system", event_type="notification.delivered", resource_id=target
    )
    async for message in stored_messages(bus, EVENTS_STREAM, subjects=subjects):
        if event_id.encode() in message.data:
            return True
    return False
