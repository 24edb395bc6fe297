"""nats-jetstream as its documentation shows it: a stream of messages, each acknowledged."""

from urllib.parse import urlsplit

import uvloop
from nats import jetstream  # type: ignore[attr-defined] # nats-jetstream, not nats-py
from nats.client import connect

from bench.peers.consumer import BATCH, DURABLE, NATS_URL, STREAM


async def main() -> None:
    """Acknowledge messages until cancelled."""
    login = urlsplit(NATS_URL)  # which the library does not read
    client = await connect(NATS_URL, user=login.username, password=login.password)
    consumer = await jetstream.new(client).get_consumer(STREAM, DURABLE)
    messages = await consumer.messages(max_messages=BATCH)
    async for message in messages:
        await message.ack()


uvloop.run(main())
