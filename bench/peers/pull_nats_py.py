"""nats-py as its documentation shows it: fetch a batch, acknowledge each message."""

import nats
import uvloop
from nats.errors import TimeoutError as NothingCame

from bench.peers.consumer import BATCH, DURABLE, NATS_URL, STREAM


async def main() -> None:
    """Acknowledge messages until cancelled."""
    client = await nats.connect(NATS_URL)
    subscription = await client.jetstream().pull_subscribe(
        "events.>", durable=DURABLE, stream=STREAM
    )
    while True:
        try:
            messages = await subscription.fetch(BATCH, timeout=5)
        except NothingCame:
            continue
        for message in messages:
            await message.ack()


uvloop.run(main())
