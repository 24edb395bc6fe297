"""The loop of a consumer: pull messages, decode them, handle them, acknowledge them.

Only this file and `lanes.py` acknowledge messages.
"""

import asyncio
import contextlib
import datetime
import logging
import random
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Final, TypeVar, assert_never

import msgspec
from nats.aio.msg import Msg
from nats.errors import Error as NatsError
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy
from nats.js.errors import APIError

from mediabus.consumers.drain import Drain, Source
from mediabus.consumers.verdict import (
    DeadLetter,
    Retry,
    RetryLater,
    RetryPolicy,
    Verdict,
    verdict_on,
)
from mediabus.runtime import metrics
from mediabus.runtime.error_text import error_text
from mediabus.runtime.nats.bus import Bus
from mediabus.runtime.nats.once import publish_once
from mediabus.runtime.nats.pull import ACK_WAIT, place_of, pulling
from mediabus.schemas import codec, dead_letter_headers
from mediabus.schemas.envelope import Envelope
from mediabus.schemas.subjects import (
    EVENTS_STREAM,
    EVENTS_SUBJECTS,
    dead_letter_subject,
)

log: Final = logging.getLogger("mediabus.consumer")

MAX_UNACKNOWLEDGED: Final = 20_000
"""Messages delivered and not acknowledged, over all processes of one consumer."""

MAX_DEAD_LETTERS_AT_ONCE: Final = 64
"""Dead letters published in parallel. Each one waits for the server's disk, so publishing them one
by one would delay the rest of the batch."""


class Delivery(msgspec.Struct, frozen=True):
    """An event as JetStream delivered it.

    ``stream_seq`` is its sequence number in the stream, ``deliveries`` how often it was delivered.
    ``sent`` is the original message if ``codec.encode`` would produce other bytes. ``message`` is
    JetStream's message.
    """

    envelope: Envelope
    stream_seq: int
    deliveries: int
    sent: codec.Sent | None = None
    message: Msg | None = None

    @property
    def stored_at(self) -> datetime.datetime:
        """When the stream stored the event; the time of the event without a message."""
        return self.message.metadata.timestamp if self.message else self.envelope.time

    @property
    def is_republished(self) -> bool:
        """Whether the event was published a second time: a dead letter, or a lost message."""
        headers = (self.message.headers if self.message else None) or {}
        return dead_letter_headers.RETRY in headers.get("Nats-Msg-Id", "")


class LeftAlone(Exception):
    """Returned by a handler whose message another process has by now.

    The message is neither acknowledged nor redelivered at once.
    """


Decoded = TypeVar("Decoded")
"""What the handler of a consumer takes: a ``Delivery``, or a row of the table ``events``."""

Decode = Callable[[Bus, Msg], Decoded]
"""Decodes the event of a message. Raises InvalidEvent."""

HandleBatch = Callable[[Sequence[Decoded]], Awaitable[Sequence[Exception | None]]]
"""Handles a batch of events. Returns, for each event, None or the error of that event."""


def durable(
    name: str, *, subjects: str = EVENTS_SUBJECTS, from_start: bool = True
) -> ConsumerConfig:
    """Return the configuration of a durable consumer.

    Processes that use the same name share the work.
    """
    return ConsumerConfig(
        durable_name=name,
        deliver_policy=DeliverPolicy.ALL if from_start else DeliverPolicy.NEW,
        ack_policy=AckPolicy.EXPLICIT,
        ack_wait=ACK_WAIT,
        max_deliver=-1,
        max_ack_pending=MAX_UNACKNOWLEDGED,
        filter_subject=subjects,
    )


async def run(
    bus: Bus,
    config: ConsumerConfig,
    handle: HandleBatch[Decoded],
    *,
    decode: Decode[Decoded],
    batch: int,
    workers: int = 1,
    stream: str = EVENTS_STREAM,
    policy: RetryPolicy | None = None,
    drain: Drain | None = None,
) -> None:
    """Pull and handle batches until cancelled or drained, up to ``workers`` concurrently."""
    name = config.durable_name or ""
    drain = drain or Drain()
    async with (
        pulling(bus, stream=stream, consumer=config, batch=max(batch, workers)) as pull,
        asyncio.TaskGroup() as tasks,
    ):
        for number in range(workers):
            worker = _work(
                bus, drain.of(pull), name, handle, decode=decode, batch=batch, policy=policy
            )
            tasks.create_task(worker, name=f"{name} {number}")


async def _work(
    bus: Bus,
    source: Source,
    name: str,
    handle: HandleBatch[Decoded],
    *,
    decode: Decode[Decoded],
    batch: int,
    policy: RetryPolicy | None,
) -> None:
    while messages := await source.messages(batch):
        await handle_messages(bus, name, handle, messages, decode=decode, policy=policy)


async def handle_messages(
    bus: Bus,
    name: str,
    handle: HandleBatch[Decoded],
    messages: Sequence[Msg],
    *,
    decode: Decode[Decoded],
    policy: RetryPolicy | None = None,
) -> None:
    """Decode and handle one batch, then acknowledge, nak or dead-letter each message."""
    done: list[Msg] = []
    failed: list[tuple[Msg, Exception]] = []
    valid: list[Msg] = []
    events: list[Decoded] = []
    for message in messages:
        try:
            events.append(decode(bus, message))
            valid.append(message)
        except codec.InvalidEvent as error:
            failed.append((message, error))
    outcomes = await _handled(handle, events) if events else []
    for message, outcome in zip(valid, outcomes, strict=True):
        if outcome is None:
            done.append(message)
        elif isinstance(outcome, LeftAlone):
            message._ackd = True  # noqa: SLF001 - as Msg.ack does; so it is not kept in progress
        else:
            failed.append((message, outcome))
    if done:
        await bus.nc.acknowledge(done)
        metrics.CONSUMED.labels(name, "done").inc(len(done))
    verdicts = [
        (message, verdict_of(error, place_of(message).deliveries, policy))
        for message, error in failed
    ]
    await retry_or_dead_letter(bus, name, verdicts)


def verdict_of(error: Exception, deliveries: int, policy: RetryPolicy | None) -> Verdict:
    """Decide about a failed message, with random jitter."""
    spread = random.random()  # noqa: S311 - spreads retries, protects nothing
    return verdict_on(error, deliveries=deliveries, policy=policy, spread=spread)


async def retry_or_dead_letter(bus: Bus, name: str, failed: Sequence[tuple[Msg, Verdict]]) -> None:
    """Nak or dead-letter each message that was not handled."""
    dead: list[tuple[Msg, DeadLetter]] = []
    for message, verdict in failed:
        match verdict:
            case DeadLetter() as final:
                dead.append((message, final))
            case Retry(delay):
                await message.nak(delay=delay)
                metrics.CONSUMED.labels(name, "retry").inc()
            case other:
                assert_never(other)
    for start in range(0, len(dead), MAX_DEAD_LETTERS_AT_ONCE):
        window = dead[start : start + MAX_DEAD_LETTERS_AT_ONCE]
        await asyncio.gather(
            *(_dead_letter(bus, name, message, final) for message, final in window)
        )
    if dead:
        metrics.CONSUMED.labels(name, "bury").inc(len(dead))


async def _handled(
    handle: HandleBatch[Decoded], events: Sequence[Decoded]
) -> Sequence[Exception | None]:
    try:
        return await handle(events)
    except Exception as error:
        # The whole batch failed, so no single event is to blame: a full disk, a missing grant.
        log.exception("batch failed, will retry", extra={"size": len(events)})
        return [RetryLater(str(error))] * len(events)


def delivery_of(bus: Bus, message: Msg) -> Delivery:
    """Decode the event of a message. Raises InvalidEvent."""
    envelope, sent = codec.read(
        message.data,
        message.headers,
        published_at=lambda: published_at(message.headers, message.metadata.timestamp),
        trust_actor=bus.trusts_actors,
    )
    place = place_of(message)
    return Delivery(envelope, place.stream_seq, place.deliveries, sent, message)


def published_at(
    headers: Mapping[str, str] | None, stored_at: datetime.datetime
) -> datetime.datetime:
    """Return when a message was first stored in its stream.

    A retried dead letter carries that time in a header; otherwise it is ``stored_at``.
    """
    with contextlib.suppress(ValueError):
        first = datetime.datetime.fromisoformat((headers or {}).get(dead_letter_headers.TIME, ""))
        return first if first.tzinfo else stored_at
    return stored_at


def _has_no_time(message: Msg) -> bool:
    with contextlib.suppress(codec.InvalidEvent):
        return not codec.decode(message.data, message.headers).has_time
    return False


async def _dead_letter(bus: Bus, name: str, message: Msg, verdict: DeadLetter) -> None:
    """Publish a message as a dead letter and acknowledge it once the dead letter is stored."""
    place = place_of(message)
    headers = dead_letter_headers.addressed(
        message.headers,
        consumer=name,
        kind=verdict.kind,
        reason=verdict.reason,
        subject=message.subject,
        stream=message.metadata.stream,
        stream_seq=place.stream_seq,
        deliveries=place.deliveries,
    )
    # A stream that was deleted and created again reuses its sequence numbers.
    headers["Nats-Msg-Id"] += f".{message.metadata.timestamp.isoformat()}"
    if _has_no_time(message):
        stored_at = published_at(message.headers, message.metadata.timestamp)
        headers[dead_letter_headers.TIME] = stored_at.isoformat()
    body = message.data
    # The server closes the connection on a message above max_payload.
    if dead_letter_headers.size(headers, body) > bus.nc.max_payload:
        headers[dead_letter_headers.BODY] = dead_letter_headers.IN_STREAM
        body = b""
    try:
        await publish_once(bus.js, dead_letter_subject(name, verdict.kind), body, headers)
    except (NatsError, APIError, TimeoutError) as error:
        log.warning("dead letter not stored, will retry", extra={"error": error_text(error)})
        await message.nak(delay=5)
        return
    log.warning(
        "message dead-lettered", extra={"subject": message.subject, "reason": verdict.reason}
    )
    await message.ack()
