"""Scan a stream without the bodies: sequence, time, subject and headers of each message."""

from collections.abc import AsyncIterator
from typing import Final

from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy

from mediabus.runtime.nats.account import API
from mediabus.runtime.nats.bus import Bus
from mediabus.runtime.nats.stream_reader import Stored, stored_messages

MAX_MESSAGES: Final = 500
"""Messages fetched at once."""


async def headers_in(
    bus: Bus, stream: str, *, subjects: str = ">", start: int = 1
) -> AsyncIterator[Stored]:
    """Yield the messages in a stream from sequence number ``start`` on, oldest first.

    Uses a consumer that delivers headers only. A user who may not create consumers reads whole
    messages with direct gets. Raises nats-py's errors.
    """
    if bus.api == API:
        messages = _by_consumer(bus, stream, subjects, start)
    else:
        messages = stored_messages(bus, stream, subjects=subjects, after=start - 1)
    async for message in messages:
        yield message


async def _by_consumer(bus: Bus, stream: str, subjects: str, start: int) -> AsyncIterator[Stored]:
    subscription = await bus.js.pull_subscribe("", stream=stream, config=_reader(subjects, start))
    try:
        left = (await subscription.consumer_info()).num_pending or 0
        while left > 0:
            for message in await subscription.fetch(min(left, MAX_MESSAGES), timeout=5):
                left -= 1
                metadata = message.metadata
                yield Stored(
                    subject=message.subject,
                    sequence=metadata.sequence.stream,
                    time=metadata.timestamp,
                    headers=message.headers or {},
                    data=message.data,
                )
    finally:
        await subscription.unsubscribe()


def _reader(subjects: str, start: int) -> ConsumerConfig:
    """Return an ephemeral consumer, which the server removes when it is idle."""
    return ConsumerConfig(
        deliver_policy=DeliverPolicy.BY_START_SEQUENCE,
        opt_start_seq=start,
        ack_policy=AckPolicy.NONE,
        filter_subject=subjects,
        headers_only=True,
        mem_storage=True,
        inactive_threshold=30,
    )
