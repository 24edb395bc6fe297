"""Old events out of the table ``events``, oldest first, each as it was published."""

import dataclasses
import datetime
from collections.abc import AsyncIterator
from typing import Final
from uuid import UUID

import asyncpg
import msgspec

from schemas.envelope import Envelope
from schemas.identity import Actor, Resource
from service.runtime.database import Pool

AT_A_TIME: Final = 100
"""Events on a page; each has a megabyte at the most."""

CHOSEN: Final = """
FROM events
WHERE occurred_at >= $1 AND occurred_at < $2 AND type = coalesce($3, type)
"""
COUNT: Final = "SELECT count(*)" + CHOSEN
PAGE: Final = f"""
SELECT id, occurred_at, type, category, severity, source, actor_type, actor_id, resource_type,
       resource_id, correlation_id, causation_id, data::text AS data
{CHOSEN} AND (occurred_at, id) > ($1, $4) ORDER BY occurred_at, id LIMIT {AT_A_TIME}
"""
BEFORE_ALL: Final = UUID(int=0)


@dataclasses.dataclass(frozen=True)
class Span:
    """Events that happened from ``since`` on and before ``until``, of one type or of all."""

    since: datetime.datetime
    until: datetime.datetime
    type: str | None = None

    def takes(self, envelope: Envelope) -> bool:
        """Whether an event is one of them."""
        return self.since <= envelope.time < self.until and self.type in {None, envelope.type}


async def count(pool: Pool, span: Span) -> int:
    """How many of them the table has."""
    found: int = await pool.fetchval(COUNT, span.since, span.until, span.type)
    return found


async def pages(pool: Pool, span: Span) -> AsyncIterator[list[Envelope]]:
    """All that the table has of them, oldest first."""
    since, after = span.since, BEFORE_ALL
    while rows := await pool.fetch(PAGE, since, span.until, span.type, after):
        yield [_envelope(row) for row in rows]
        since, after = rows[-1]["occurred_at"], rows[-1]["id"]


def _envelope(row: asyncpg.Record) -> Envelope:
    actor_type, resource_type = row["actor_type"], row["resource_type"]
    return Envelope(
        id=row["id"],
        type=row["type"],
        time=row["occurred_at"],
        source=row["source"],
        category=row["category"],
        severity=row["severity"],
        actor=Actor(actor_type, row["actor_id"]) if actor_type else None,
        resource=Resource(resource_type, row["resource_id"]) if resource_type else None,
        correlation_id=row["correlation_id"],
        causation_id=row["causation_id"],
        # Without the blanks that PostgreSQL puts in, which could make it too large.
        data=msgspec.Raw(msgspec.json.format(row["data"], indent=-1).encode()),
    )
