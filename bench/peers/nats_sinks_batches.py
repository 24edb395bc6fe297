"""The runner of nats-sinks with a sink of one's own: it has none for PostgreSQL."""

from collections.abc import Sequence

import asyncpg
import uvloop
from nats_sinks.core.config import DeliveryConfig
from nats_sinks.core.envelope import NatsEnvelope
from nats_sinks.core.runner import JetStreamSinkRunner

from bench.peers.row import BATCH, DATABASE_URL, DURABLE, INSERT, NATS_URL, STREAM, row


class PostgresSink:
    """Batches into ``events``; the runner acknowledges them afterwards."""

    async def start(self) -> None:
        """Opens the pool."""
        self._pool = await asyncpg.create_pool(DATABASE_URL, min_size=1)

    async def write_batch(self, messages: Sequence[NatsEnvelope]) -> None:
        """Commits before it returns."""
        rows = [row(message.data, message.stream_sequence) for message in messages]
        await self._pool.executemany(INSERT, rows)

    async def stop(self) -> None:
        """Closes the pool."""
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
