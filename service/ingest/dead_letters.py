"""Write the dead letters of consumers that have a key, with the message from the stream.

A dead letter thus holds the message that was delivered, and not what its consumer claims. So it is
safe to publish it again with the permissions of mediabus.
"""

from collections.abc import Mapping
from typing import Final

import msgspec
from nats.aio.msg import Msg
from nats.errors import Error as NatsError
from nats.js.api import RawStreamMsg
from nats.js.errors import APIError, NotFoundError

from mediabus.runtime.nats.bus import Bus
from mediabus.runtime.nats.once import acknowledged
from mediabus.schemas import dead_letter_headers
from mediabus.schemas.subjects import EVENTS_STREAM, REPLAY_STREAM, dead_letter_subject, replayed
from mediabus.service.ingest.refusal import Refused

KINDS: Final = ("invalid", "rejected", "failed")


async def write_dead_letter(bus: Bus, message: Msg) -> bytes:
    """Write the dead letter that a message requests, and return the acknowledgement of JetStream.

    Raises:
        Refused: the request is invalid, or NATS is unavailable.
    """
    consumer, kind = message.subject.split(".")[-2:]
    if kind not in KINDS:
        raise Refused(400, f"invalid kind of dead letter {kind!r}: use {', '.join(KINDS)}")
    claimed = message.headers or {}
    stream, sequence = _original_of(claimed)
    original = await _fetch(bus, stream, sequence)
    if stream == REPLAY_STREAM and not (original.subject or "").startswith(replayed(consumer, "")):
        raise Refused(403, f"message {sequence} was not replayed to {consumer}")
    headers = dead_letter_headers.addressed(
        original.headers,
        consumer=consumer,
        kind=kind,
        reason=claimed.get(dead_letter_headers.REASON, "?"),
        subject=original.subject or "",
        stream=stream,
        stream_seq=sequence,
        deliveries=_number(claimed.get(dead_letter_headers.DELIVERIES)),
    )
    if original.time:  # a stream that was created again reuses its sequences
        headers["Nats-Msg-Id"] += f".{original.time.isoformat()}"
    body = original.data or b""
    if dead_letter_headers.size(headers, body) > bus.nc.max_payload:
        headers, body = {**headers, dead_letter_headers.BODY: dead_letter_headers.IN_STREAM}, b""
    return await _stored(bus, dead_letter_subject(consumer, kind), headers, body)


async def _stored(bus: Bus, subject: str, headers: dict[str, str], body: bytes) -> bytes:
    try:
        ack = await acknowledged(bus.js, subject, body, headers)
    except (NatsError, APIError, TimeoutError) as error:
        raise Refused(503, f"cannot store a dead letter: {error or 'timeout'}") from error
    return msgspec.json.encode({"stream": ack.stream, "seq": ack.seq})


def _original_of(claimed: Mapping[str, str]) -> tuple[str, int]:
    stream, sequence = (
        claimed.get(dead_letter_headers.STREAM, ""),
        _number(claimed.get(dead_letter_headers.STREAM_SEQ)),
    )
    if stream not in {EVENTS_STREAM, REPLAY_STREAM} or not sequence:
        raise Refused(
            400,
            f"invalid {dead_letter_headers.STREAM} or {dead_letter_headers.STREAM_SEQ}: they must "
            "name the delivered message",
        )
    return stream, sequence


async def _fetch(bus: Bus, stream: str, sequence: int) -> RawStreamMsg:
    try:
        return await bus.js.get_msg(stream, sequence)
    except NotFoundError as error:
        raise Refused(404, f"message {sequence} is no longer in {stream}") from error
    except (NatsError, APIError, TimeoutError) as error:
        raise Refused(503, f"cannot read {stream}: {error or 'timeout'}") from error


def _number(text: str | None) -> int:
    return int(text) if text and text.isascii() and text.isdigit() and len(text) < 19 else 0
