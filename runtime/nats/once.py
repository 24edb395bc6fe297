"""Publish to a stream and make sure that the message is stored.

JetStream drops a message whose id it saw in the last two minutes and acknowledges it as a
duplicate. Another message may have used that id, so a duplicate alone does not mean success.
"""

from collections.abc import Mapping
from typing import Final
from uuid import uuid4

from nats.js import JetStreamContext
from nats.js.api import PubAck
from nats.js.errors import BadRequestError, NotFoundError

from mediabus.runtime.nats.client import NotAllowed
from mediabus.schemas.dead_letter_headers import RETRY

MESSAGE_ID: Final = "Nats-Msg-Id"


async def publish_once(
    js: JetStreamContext,
    subject: str,
    body: bytes,
    headers: Mapping[str, str],
    *,
    stream: str | None = None,
    timeout: float | None = None,
) -> bool:
    """Publish with the message id in the headers.

    Returns whether the stream already held the same message. If another message has the id, or it
    cannot be read, publish with a new id. Raises nats-py's errors.
    """
    ack = await acknowledged(js, subject, body, headers, stream=stream, timeout=timeout)
    return bool(ack.duplicate)


async def acknowledged(
    js: JetStreamContext,
    subject: str,
    body: bytes,
    headers: Mapping[str, str],
    *,
    stream: str | None = None,
    timeout: float | None = None,
) -> PubAck:
    """Publish like ``publish_once``, but return JetStream's acknowledgement."""
    ack = await js.publish(subject, body, headers=dict(headers), stream=stream, timeout=timeout)
    if not ack.duplicate or await _holds(js, ack, subject, body, headers):
        return ack
    headers = {**headers, MESSAGE_ID: new_id(headers[MESSAGE_ID])}
    return await js.publish(subject, body, headers=headers, stream=stream, timeout=timeout)


def new_id(message_id: str) -> str:
    """Return an unused id from which the first id can be recovered."""
    return f"{message_id}{RETRY}{uuid4().hex}"


async def _holds(
    js: JetStreamContext, ack: PubAck, subject: str, body: bytes, headers: Mapping[str, str]
) -> bool:
    try:
        stored = await js.get_msg(ack.stream, ack.seq)
    except (NotFoundError, BadRequestError, NotAllowed):
        return False
    found = stored.headers or {}
    is_same = stored.subject == subject and (stored.data or b"") == body
    return is_same and all(
        found.get(name, "").strip() == value.strip() for name, value in headers.items()
    )
