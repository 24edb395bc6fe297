"""What a stream holds, without the bodies: each message's place, subject and headers."""

from collections.abc import AsyncIterator
from typing import Final

from nats.aio.msg import Msg
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy

from service.runtime.bus import Bus

AT_A_TIME: Final = 500


async def headers_in(
    bus: Bus, stream: str, *, subjects: str | None = None, start: int = 1
) -> AsyncIterator[Msg]:
    """The messages that a stream holds now, from a number on, oldest first. Raises as nats-py."""
    subscription = await bus.js.pull_subscribe("", stream=stream, config=_reader(subjects, start))
    try:
        left = (await subscription.consumer_info()).num_pending or 0
        while left > 0:
            messages = await subscription.fetch(min(left, AT_A_TIME), timeout=5)
            for message in messages:
                yield message
            left -= len(messages)
    finally:
        await subscription.unsubscribe()


def _reader(subjects: str | None, start: int) -> ConsumerConfig:
    """Leaves no trace, and is forgotten by the server by itself."""
    return ConsumerConfig(
        deliver_policy=DeliverPolicy.BY_START_SEQUENCE,
        opt_start_seq=start,
        ack_policy=AckPolicy.NONE,
        filter_subject=subjects,
        headers_only=True,
        mem_storage=True,
        inactive_threshold=30,
    )
