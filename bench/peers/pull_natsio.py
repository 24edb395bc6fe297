"""natsio as its documentation shows it: a stream of messages, each acknowledged."""

import natsio
import uvloop

from bench.peers.consumer import BATCH, DURABLE, NATS_URL, STREAM


async def main() -> None:
    """Acknowledge messages until cancelled."""
    async with await natsio.connect(NATS_URL) as client:
        stream = await client.jetstream().stream(STREAM)
        consumer = await stream.consumer(DURABLE)
        async with consumer.consume(max_messages=BATCH) as messages:
            async for message in messages:
                await message.ack()


uvloop.run(main())
