"""nats-py as its tutorial shows it: fetch, insert, acknowledge, one message after the other."""

import asyncpg
import nats
import uvloop
from nats.errors import TimeoutError as NothingCame

from bench.peers.row import BATCH, DATABASE_URL, DURABLE, INSERT, NATS_URL, STREAM, row


async def main() -> None:
    """Store messages until cancelled."""
    connection = await asyncpg.connect(DATABASE_URL)
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
            await connection.execute(INSERT, *row(message.data, message.metadata.sequence.stream))
            await message.ack()


uvloop.run(main())
