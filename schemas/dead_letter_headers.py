"""The headers of a dead letter: the original message, and why it was dead-lettered."""

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
"""``in-stream``: the body left no room for these headers, so only the stream has it."""

TIME: Final = "Mediabus-Time"
"""When a message was first stored whose event has no time. It stays the time of the event when the
message is published again."""

IN_STREAM: Final = "in-stream"
RETRY: Final = ".retry."
MOST_KEPT: Final = 32_768
"""Limit in bytes of the original headers: a dead letter keeps all or none of them. JetStream takes
65,535 with the headers of mediabus."""

STATUS: Final = "status"
"""A header of server messages. A dead letter with it would be taken for one of those."""

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
    """Return the headers of a message's dead letter: its own, and why it was dead-lettered."""
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
    """Return the original headers of a message.

    This excludes the headers of dead letters, names that nats-py cannot send, and instructions to
    the server (``Nats-*``). Those were for the first stream: another stream refuses a message of
    an atomic batch, which every event from the outbox is.
    """
    return {
        name: value
        for name, value in headers.items()
        if _NAME.fullmatch(name)
        and name not in OURS
        and name.lower() != STATUS
        and not name.lower().startswith("nats-")
    }


def message_id_of(headers: Mapping[str, str] | None) -> str | None:
    """Return the id of the first publication of the message, before any retry."""
    return first_id((headers or {}).get(MESSAGE_ID))


def first_id(message_id: str | None) -> str | None:
    """Return a message's id without the suffix of a retry."""
    return None if message_id is None else message_id.partition(RETRY)[0]


def size(headers: Mapping[str, str], body: bytes) -> int:
    """Return the bytes of a message that count towards a server's ``max_payload``."""
    lines = (len(name.encode()) + len(value.encode()) + 4 for name, value in headers.items())
    return len("NATS/1.0\r\n\r\n") + sum(lines) + len(body)
