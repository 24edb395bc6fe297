"""FastStream with a batching pull subscriber, whose handler stores the batch by executemany."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg
import uvloop
from faststream import FastStream
from faststream.nats import JStream, NatsBroker, PullSub
from faststream.nats.annotations import NatsMessage

from bench.peers.row import BATCH, DATABASE_URL, DURABLE, INSERT, NATS_URL, STREAM, row

broker = NatsBroker(NATS_URL, logger=None)
pools: list[asyncpg.Pool] = []


@asynccontextmanager
async def database() -> AsyncIterator[None]:
    """Open a pool while the application runs."""
    async with asyncpg.create_pool(DATABASE_URL, min_size=1) as pool:
        pools.append(pool)
        yield


app = FastStream(broker, lifespan=database, logger=None)


@broker.subscriber(
    "events.>",
    stream=JStream(STREAM, declare=False),
    durable=DURABLE,
    pull_sub=PullSub(batch_size=BATCH, timeout=1.0, batch=True),
)
async def store(message: NatsMessage) -> None:
    """Store a batch. FastStream acknowledges its messages afterwards."""
    batch = message.raw_message
    rows = [row(one.data, one.metadata.sequence.stream) for one in batch]
    await pools[0].executemany(INSERT, rows)


uvloop.run(app.run())
