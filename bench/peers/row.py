"""Convert an event to a row of ``events``, for peers that leave decoding to the user."""

import os
from datetime import datetime
from typing import Any, Final
from uuid import UUID

import msgspec

NATS_URL: Final = os.environ.get("NATS_URL", "")
DATABASE_URL: Final = os.environ.get("DATABASE_URL", "")
STREAM: Final = os.environ.get("STREAM", "")
DURABLE: Final = os.environ.get("DURABLE", "")
BATCH: Final = 1000

INSERT: Final = """
INSERT INTO events (id, occurred_at, stream_seq, category, type, severity, source, actor_type,
                    actor_id, resource_type, resource_id, correlation_id, causation_id, data)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)
ON CONFLICT DO NOTHING
"""


def row(body: bytes, stream_seq: int | None) -> tuple[Any, ...]:
    """Return the arguments of INSERT for a CloudEvent in JSON."""
    event = msgspec.json.decode(body)
    kind, _, resource = event.get("subject", "").partition("/")
    return (
        UUID(event["id"]),
        datetime.fromisoformat(event["time"]),
        stream_seq,
        event["category"],
        event["type"],
        event["severity"],
        event["source"],
        event.get("actortype"),
        event.get("actorid"),
        kind or None,
        resource or None,
        event.get("correlationid"),
        event.get("causationid"),
        msgspec.json.encode(event["data"]).decode(),
    )
