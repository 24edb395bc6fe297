"""What is written on a dead letter: how the message looked, and why no consumer could use it."""

from collections.abc import Mapping
from typing import Final

CONSUMER: Final = "Mediabus-Consumer"
KIND: Final = "Mediabus-Kind"
REASON: Final = "Mediabus-Reason"
SUBJECT: Final = "Mediabus-Subject"
STREAM: Final = "Mediabus-Stream"
STREAM_SEQ: Final = "Mediabus-Stream-Seq"
DELIVERIES: Final = "Mediabus-Deliveries"
MESSAGE_ID: Final = "Mediabus-Message-Id"
BODY: Final = "Mediabus-Body"
"""``in-stream``: the body left no room for these headers, and is only where it came from."""

IN_STREAM: Final = "in-stream"
RETRY: Final = ".retry."
OURS: Final = {CONSUMER, KIND, REASON, SUBJECT, STREAM, STREAM_SEQ, DELIVERIES, MESSAGE_ID, BODY}


def addressed(
    original: Mapping[str, str] | None,
    *,
    consumer: str,
    kind: str,
    reason: str,
    subject: str,
    stream: str,
    stream_seq: int,
    deliveries: int,
) -> dict[str, str]:
    """The headers of the letter that a message becomes: its own, and what happened to it."""
    headers = {
        **original_of(original or {}),
        "Nats-Msg-Id": f"{consumer}.{stream}.{stream_seq}",
        CONSUMER: consumer,
        KIND: kind,
        REASON: " ".join(reason.split())[:1000],
        SUBJECT: subject,
        STREAM: stream,
        STREAM_SEQ: str(stream_seq),
        DELIVERIES: str(deliveries),
    }
    message_id = (original or {}).get("Nats-Msg-Id")
    return headers if message_id is None else {**headers, MESSAGE_ID: message_id}


def original_of(headers: Mapping[str, str]) -> dict[str, str]:
    """A message's own headers: without what we wrote, and without those that tell a server what to
    do with it. They were for the stream that took it first: another one refuses a message that
    says it is part of an atomic batch, as every event from the outbox does."""
    return {
        name: value
        for name, value in headers.items()
        if name not in OURS and not name.lower().startswith("nats-")
    }


def message_id_of(headers: Mapping[str, str] | None) -> str | None:
    """The id under which the message was published first, however often it was tried again."""
    return first_id((headers or {}).get(MESSAGE_ID))


def first_id(message_id: str | None) -> str | None:
    """A message's id before it was ever tried again."""
    return None if message_id is None else message_id.partition(RETRY)[0]


def size(headers: Mapping[str, str], body: bytes) -> int:
    """The bytes of a message that count towards a server's ``max_payload``."""
    lines = (len(name.encode()) + len(value.encode()) + 4 for name, value in headers.items())
    return len("NATS/1.0\r\n\r\n") + sum(lines) + len(body)
