"""Run nats-sinks with a sink for PostgreSQL, which it lacks."""

from collections.abc import Sequence

import asyncpg
import uvloop
from nats_sinks.core.config import DeliveryConfig
from nats_sinks.core.envelope import NatsEnvelope
from nats_sinks.core.runner import JetStreamSinkRunner

from bench.peers.row import BATCH, DATABASE_URL, DURABLE, INSERT, NATS_URL, STREAM, row


class PostgresSink:
    """A sink that stores batches in ``events``. The runner acknowledges them afterwards."""

    async def start(self) -> None:
        """Open the pool."""
        self._pool = await asyncpg.create_pool(DATABASE_URL, min_size=1)

    async def write_batch(self, messages: Sequence[NatsEnvelope]) -> None:
        """Store a batch and commit."""
        rows = [row(message.data, message.stream_sequence) for message in messages]
        await self._pool.executemany(INSERT, rows)

    async def stop(self) -> None:
        """Close the pool."""
        await self._pool.close()


runner = JetStreamSinkRunner(
    nats_url=NATS_URL,
    stream=STREAM,
    consumer=DURABLE,
    subject="events.>",
    sink=PostgresSink(),
    delivery=DeliveryConfig(batch_size=BATCH, batch_timeout_ms=1000),
)
uvloop.run(runner.run())
