"""Whether clients are in reach: an outage and its end become one event each."""

from typing import Final

import asyncpg

from schemas.envelope import Envelope
from schemas.events import DownloadClientRecovered, DownloadClientUnreachable, Event
from schemas.identity import Resource
from schemas.status import ClientStatus
from service.downloads.row import MONITOR
from service.outbox.outbox import Outbox
from service.runtime.database import Pool

READ: Final = "SELECT reachable, since FROM download_clients WHERE name = $1"
MEET: Final = """
INSERT INTO download_clients (name, kind, reachable, since) VALUES ($1, $2, true, $3)
ON CONFLICT DO NOTHING
"""
CHANGE: Final = """
WITH op AS (
    INSERT INTO download_clients (name, kind, reachable, since) VALUES ($5, $6, $7, $8)
    ON CONFLICT (name) DO UPDATE SET kind = $6, reachable = $7, since = $8
        WHERE download_clients.reachable <> $7
    RETURNING name
)
SELECT record_events($1, $2, $3, $4) AS recorded FROM op
"""


class Reachability:
    """The table ``download_clients``, compared with what the watchers say."""

    def __init__(self, pool: Pool, outbox: Outbox) -> None:
        self._pool = pool
        self._outbox = outbox

    async def take(self, status: ClientStatus) -> None:
        """Says so where a client has gone out of reach, or is back."""
        known = await self._pool.fetchrow(READ, status.client)
        if known is None and status.reachable:
            await self._pool.execute(MEET, status.client, status.kind, status.since)
        elif known is None or known["reachable"] != status.reachable:
            event = _recovered(status, known) if status.reachable else _unreachable(status)
            resource = Resource("download_client", status.client)
            told = Envelope.of(event, actor=MONITOR, resource=resource)
            await self._outbox.perform(
                CHANGE, status.client, status.kind, status.reachable, status.since, events=[told]
            )


def _unreachable(status: ClientStatus) -> Event:
    return DownloadClientUnreachable(
        client=status.client,
        kind=status.kind,
        reason=status.reason,
        error_message=status.message,
    )


def _recovered(status: ClientStatus, known: asyncpg.Record | None) -> Event:
    away = (status.since - known["since"]).total_seconds() if known else None
    return DownloadClientRecovered(client=status.client, kind=status.kind, away_seconds=away)
