"""What is written on a dead letter: how the message looked, and why no consumer could use it."""

import re
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
MOST_KEPT: Final = 32_768
"""Bytes of a message's own headers that a letter keeps, whole or not at all: JetStream takes
65,535 with ours."""

STATUS: Final = "status"
"""By this header a server speaks for itself: whoever reads letters would take one for its word."""

LONGEST_ID: Final = 1024
_NAME: Final = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
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
    own = original_of(original or {})
    headers = {
        **(own if size(own, b"") <= MOST_KEPT else {}),
        "Nats-Msg-Id": f"{consumer}.{stream}.{stream_seq}",
        CONSUMER: consumer,
        KIND: kind,
        REASON: " ".join(reason.split())[:1000].encode(errors="replace").decode(),
        SUBJECT: subject,
        STREAM: stream,
        STREAM_SEQ: str(stream_seq),
        DELIVERIES: str(deliveries),
    }
    message_id = (original or {}).get("Nats-Msg-Id")
    if message_id is None or len(message_id) > LONGEST_ID:
        return headers
    return {**headers, MESSAGE_ID: message_id}


def original_of(headers: Mapping[str, str]) -> dict[str, str]:
    """A message's own headers: without what we wrote, without names that nats-py would not send,
    and without those that tell a server what to do with it. They were for the stream that took it
    first: another one refuses a message that says it is part of an atomic batch, as every event
    from the outbox does."""
    return {
        name: value
        for name, value in headers.items()
        if _NAME.fullmatch(name)
        and name not in OURS
        and name.lower() != STATUS
        and not name.lower().startswith("nats-")
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
