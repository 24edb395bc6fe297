"""The life of a consumer: pull, decode, handle, settle. The only file here that knows JetStream's
acknowledgements."""

import asyncio
import dataclasses
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, assert_never

from nats.aio.msg import Msg
from nats.errors import Error as NatsError
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy
from nats.js.errors import APIError

from consumers.verdict import Bury, Retry, RetryLater, verdict_on
from schemas import codec, letter
from schemas.envelope import Envelope
from schemas.subjects import EVENTS_STREAM, EVENTS_SUBJECTS, REPLAY_STREAM, replayed
from service.runtime import metrics
from service.runtime.bus import Bus, connect
from service.runtime.pull import ACK_WAIT, Pull, place_of, pulling
from service.runtime.settings import NatsSettings, load, resolved

log: Final = logging.getLogger("mediabus.consumer")

MOST_IN_DOUBT: Final = 20_000
"""Messages delivered and not settled, over all processes of one consumer."""

BURIED_AT_ONCE: Final = 64
"""Each waits for the disk of its dead letter: one after the other they would hold up the rest."""


@dataclasses.dataclass(frozen=True)
class Delivery:
    """An event as it was delivered: its place in the stream, and how often it came."""

    envelope: Envelope
    stream_seq: int
    deliveries: int


HandleBatch = Callable[[Sequence[Delivery]], Awaitable[Sequence[Exception | None]]]
"""Handles events and answers, for each, None or what went wrong with it alone."""

Handle = Callable[[Envelope], Awaitable[None]]
"""Handles one event, or raises; see ``consumers/verdict.py`` for what that leads to."""


def durable(
    name: str, *, subjects: str = EVENTS_SUBJECTS, from_start: bool = True
) -> ConsumerConfig:
    """A durable consumer of the events: processes that share its name share its work."""
    return ConsumerConfig(
        durable_name=name,
        deliver_policy=DeliverPolicy.ALL if from_start else DeliverPolicy.NEW,
        ack_policy=AckPolicy.EXPLICIT,
        ack_wait=ACK_WAIT,
        max_deliver=-1,
        max_ack_pending=MOST_IN_DOUBT,
        filter_subject=subjects,
    )


async def consume(
    name: str,
    handle: Handle,
    *,
    subjects: str = EVENTS_SUBJECTS,
    from_start: bool = False,
    settings: NatsSettings | None = None,
) -> None:
    """Runs a consumer of your own for ever: each event of ``subjects`` once handled is done with;
    one whose handler raises comes again later, and in the end goes to the dead letters.
    ``from_start`` also delivers what the stream already holds; older ones come with `mediabus
    replay --to NAME`. Start it as often as you like: processes of the same ``name`` share the work.
    A process handles one event at a time."""
    one_at_a_time = asyncio.Lock()

    async def handle_batch(batch: Sequence[Delivery]) -> list[Exception | None]:
        async with one_at_a_time:
            return [await _outcome(handle, delivery.envelope) for delivery in batch]

    live = durable(name, subjects=subjects, from_start=from_start)
    old = durable(name, subjects=replayed(name, subjects))
    async with (
        connect(settings or resolved(load(None)).nats, name=f"mediabus {name}") as bus,
        asyncio.TaskGroup() as tasks,
    ):
        # One by one: what is fetched ahead, and waits for a slow handler, counts as being handled.
        tasks.create_task(run(bus, live, handle_batch, batch=1))
        tasks.create_task(run(bus, old, handle_batch, batch=1, stream=REPLAY_STREAM))


async def _outcome(handle: Handle, envelope: Envelope) -> Exception | None:
    try:
        await handle(envelope)
    except Exception as error:  # noqa: BLE001 - whatever a handler raises is the verdict's to judge
        return error
    return None


async def run(
    bus: Bus,
    config: ConsumerConfig,
    handle: HandleBatch,
    *,
    batch: int,
    workers: int = 1,
    stream: str = EVENTS_STREAM,
) -> None:
    """Pulls and handles for ever, with ``workers`` batches under way at a time."""
    async with (
        pulling(bus, stream=stream, consumer=config, batch=batch) as pull,
        asyncio.TaskGroup() as tasks,
    ):
        for number in range(workers):
            worker = _work(bus, pull, config.durable_name or "", handle, batch)
            tasks.create_task(worker, name=f"{config.durable_name} {number}")


async def _work(bus: Bus, pull: Pull, name: str, handle: HandleBatch, batch: int) -> None:
    while True:
        await handle_messages(bus, name, handle, await pull.messages(batch))


async def handle_messages(
    bus: Bus, name: str, handle: HandleBatch, messages: Sequence[Msg]
) -> None:
    """One pass: decodes and handles the messages, then settles each."""
    done: list[Msg] = []
    others: list[tuple[Msg, Exception]] = []
    decoded: list[Msg] = []
    deliveries: list[Delivery] = []
    for message in messages:
        try:
            deliveries.append(_decode(message))
            decoded.append(message)
        except codec.InvalidEvent as error:
            others.append((message, error))
    outcomes = await _handled(handle, deliveries) if deliveries else []
    for message, outcome in zip(decoded, outcomes, strict=True):
        if outcome is None:
            done.append(message)
        else:
            others.append((message, outcome))
    if done:
        await bus.nc.acknowledge(done)
        metrics.CONSUMED.labels(name, "done").inc(len(done))
    await _settle(bus, name, others)


async def _settle(bus: Bus, name: str, troubles: Sequence[tuple[Msg, Exception]]) -> None:
    """What becomes of the messages that were not handled."""
    burials: list[tuple[Msg, Bury]] = []
    for message, error in troubles:
        match verdict_on(error, deliveries=place_of(message).deliveries):
            case Bury() as verdict:
                burials.append((message, verdict))
            case Retry(delay):
                await message.nak(delay=delay)
                metrics.CONSUMED.labels(name, "retry").inc()
            case other:
                assert_never(other)
    for start in range(0, len(burials), BURIED_AT_ONCE):
        window = burials[start : start + BURIED_AT_ONCE]
        await asyncio.gather(*(_bury(bus, name, message, bury) for message, bury in window))
    if burials:
        metrics.CONSUMED.labels(name, "bury").inc(len(burials))


async def _handled(
    handle: HandleBatch, deliveries: Sequence[Delivery]
) -> Sequence[Exception | None]:
    try:
        return await handle(deliveries)
    except Exception as error:
        # It could not even say which event is at fault, so none is: a full disk, a missing grant.
        log.exception("batch not handled: trying again later", extra={"size": len(deliveries)})
        return [RetryLater(str(error))] * len(deliveries)


def _decode(message: Msg) -> Delivery:
    envelope = codec.decode(message.data, message.headers)
    return Delivery(envelope, *place_of(message))


async def _bury(bus: Bus, name: str, message: Msg, verdict: Bury) -> None:
    """Lets go of a message only once the dead letters hold it."""
    place = place_of(message)
    headers = letter.addressed(
        message.headers,
        consumer=name,
        kind=verdict.kind,
        reason=verdict.reason,
        subject=message.subject,
        stream=message.metadata.stream,
        stream_seq=place.stream_seq,
        deliveries=place.deliveries,
    )
    # A stream that was made anew gives its numbers again.
    headers["Nats-Msg-Id"] += f".{message.metadata.timestamp.isoformat()}"
    body = message.data
    if letter.size(headers, body) > bus.nc.max_payload:  # the server would end the connection
        headers, body = {**headers, letter.BODY: letter.IN_STREAM}, b""
    try:
        await bus.js.publish(f"dead_letters.{name}.{verdict.kind}", body, headers=headers)
    except (NatsError, APIError, TimeoutError) as error:
        log.warning("dead letters cannot be reached: %s", str(error) or type(error).__name__)
        await message.nak(delay=5)
        return
    log.warning("buried", extra={"subject": message.subject, "reason": verdict.reason})
    await message.ack()
