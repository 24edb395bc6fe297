"""Report outages of download clients: one event for the start and one for the end."""

from collections import deque
from typing import Final

import asyncpg

from mediabus.runtime import tracing
from mediabus.runtime.postgres.database import Pool
from mediabus.schemas.envelope import Envelope
from mediabus.schemas.events import DownloadClientRecovered, DownloadClientUnreachable, Event
from mediabus.schemas.fitting import fitted
from mediabus.schemas.identity import Resource
from mediabus.schemas.status import ClientStatus
from mediabus.service.downloads.row import MONITOR
from mediabus.service.outbox.outbox import Outbox

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


PROMPT_RECOVERIES: Final = 3
"""Outages of one client within an hour whose recovery is reported immediately."""

STEADY_FOR: Final = (60.0, 120.0, 240.0, 480.0, 900.0)
"""Seconds for which the client must be reachable before later recoveries are reported."""


class Patience:
    """Delay the recovery events of an unstable client.

    Pure: times are seconds of a monotonic clock.
    """

    def __init__(self) -> None:
        self._outages: deque[float] = deque(maxlen=PROMPT_RECOVERIES + len(STEADY_FOR))

    def note_outage(self, now: float) -> None:
        """Note that an outage was reported."""
        self._outages.append(now)

    def steady_for(self, now: float) -> float:
        """Return the seconds for which it must be reachable before its recovery is reported."""
        last_hour = sum(now - outage < 3600 for outage in self._outages)
        if last_hour <= PROMPT_RECOVERIES:
            return 0.0
        return STEADY_FOR[min(last_hour - PROMPT_RECOVERIES, len(STEADY_FOR)) - 1]


class Reachability:
    """The table ``download_clients``, and the events of its changes."""

    def __init__(self, pool: Pool, outbox: Outbox) -> None:
        self._pool = pool
        self._outbox = outbox

    async def update(self, status: ClientStatus) -> None:
        """Store whether a client is reachable, and record an event if that changed."""
        known = await self._pool.fetchrow(READ, status.client)
        if known is None and status.reachable:
            await self._pool.execute(MEET, status.client, status.kind, status.since)
        elif known is None or known["reachable"] != status.reachable:
            event = _recovered(status, known) if status.reachable else _unreachable(status)
            resource = Resource("download_client", status.client)
            with tracing.transition(event.type):
                envelope = Envelope.of(fitted(event), actor=MONITOR, resource=resource)
                await self._outbox.perform(
                    CHANGE,
                    status.client,
                    status.kind,
                    status.reachable,
                    status.since,
                    events=[envelope],
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
