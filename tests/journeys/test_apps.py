"""The history of an application becomes events once each, even if processes are killed."""

import asyncio
import hashlib
import time
from pathlib import Path
from typing import Any

import msgspec
import pytest

from mediabus.runtime.postgres.database import Pool
from mediabus.runtime.settings import Settings
from mediabus.service.apps.configured import app_settings
from tests.support.apps import Sonarr
from tests.support.eventually import eventually
from tests.support.processes import HOST, Process, processes
from tests.support.servers import NatsServer

ROWS = 1000
ROUNDS = 20
KILLS = {2, 5, 9, 14, 17}
"""The rounds after which the service is killed; the third of them is during the outage."""
RESTARTS = {4, 15}
"""The rounds after which Sonarr restarts."""
OUTAGE = range(7, 12)
"""The rounds during which NATS is away."""
OUTAGE_SECONDS = 60.0
GRABBED = """
SELECT data->>'client_item' FROM events WHERE type = 'release.grabbed' ORDER BY stream_seq
"""


def infohash(number: int) -> str:
    return hashlib.sha1(str(number).encode(), usedforsecurity=False).hexdigest()


class Story:
    """Sonarr with 1,000 rows, and the service that reads them."""

    def __init__(self, pool: Pool, sonarr: Sonarr, nats: NatsServer, service: Process) -> None:
        self.pool, self.sonarr, self.nats, self.service = pool, sonarr, nats, service
        self.series: Any = sonarr.put_series("Severance", episodes=ROWS)
        self.away: list[float] = []
        """When NATS went away, and when it came back."""
        self.kills: list[int] = []
        """How many rows had been read at each kill."""

    async def play(self) -> None:
        """All rounds: grabs, kills, restarts and the outage."""
        for turn in range(ROUNDS):
            if turn == OUTAGE.start:
                self.nats.kill()
                self.away.append(time.monotonic())
            await self.grab_some(turn)
            if turn in KILLS:
                await self.kill(turn)
            if turn in RESTARTS:
                await self.sonarr.restart()
            if turn == OUTAGE.stop - 1:
                await self.end_outage()

    async def grab_some(self, turn: int) -> None:
        """Grab a release for each of the next episodes."""
        for number in range(turn * ROWS // ROUNDS, (turn + 1) * ROWS // ROUNDS):
            await self.sonarr.grab(self.series, [number + 1], infohash(number).upper())

    async def kill(self, turn: int) -> None:
        """Kill the service once it has read something since the last kill, and start it again.

        It reads during the outage, too, but cannot start.
        """
        before = self.kills[-1] if self.kills else 0

        async def has_read() -> int:
            return rows if (rows := await self.rows_read()) > before else 0

        rows = await eventually(has_read, within=60)
        self.service.kill()
        self.kills.append(rows)
        self.service.start()
        if turn not in OUTAGE:
            await eventually(self.is_ready, within=60)

    async def end_outage(self) -> None:
        """Wait for the rest of the minute, and start NATS again. Nothing was stored meanwhile."""
        stored = await self.stored()
        await asyncio.sleep(self.away[0] + OUTAGE_SECONDS - time.monotonic())
        assert await self.stored() == stored
        self.away.append(time.monotonic())
        self.nats.start()

    async def rows_read(self) -> int:
        return int(await self.pool.fetchval("SELECT count(*) FROM app_rows"))

    async def stored(self) -> list[str]:
        return [row[0] for row in await self.pool.fetch(GRABBED)]

    async def is_met(self) -> bool:
        return bool(await self.pool.fetchval("SELECT count(*) FROM apps WHERE read_at NOTNULL"))

    async def is_ready(self) -> bool:
        return self.service.is_ready


@pytest.mark.slow
@pytest.mark.timeout(420)
async def test_thousand_rows_are_a_thousand_events_in_order_through_kills_and_outages(
    pool: Pool, nats: NatsServer, settings: Settings, tmp_path: Path
) -> None:
    """Every second webhook is lost, Sonarr restarts twice, and NATS is away for a minute.

    The service is killed five times. Most of the time is that minute, in which the test sleeps.
    """
    async with Sonarr.running() as sonarr:
        app: dict[str, Any] = {"name": "tv", "kind": "sonarr", "poll": 3}
        app |= {"url": sonarr.url, "api_key": sonarr.api_key}
        settings = msgspec.structs.replace(settings, apps=[app])
        (configured,) = app_settings(settings, {})
        with processes(settings, tmp_path, "service", "persist") as (service, _):
            story = Story(pool, sonarr, nats, service)
            await eventually(story.is_met, within=60)
            sonarr.connections.add(f"http://{HOST}:{service.port}/hooks/tv/{configured.token}")
            sonarr.connections.drop = lambda number: number % 2 == 1
            await story.play()

            async def are_all_stored() -> bool:
                return len(await story.stored()) >= ROWS

            await eventually(are_all_stored, within=120, every=0.5)
            await eventually(story.is_ready, within=60)
            assert await story.stored() == [infohash(number) for number in range(ROWS)]
    assert len(story.kills) == 5
    assert story.away[1] - story.away[0] >= OUTAGE_SECONDS
    lost = [status for _, status in sonarr.connections.attempts[::2]]
    assert set(lost) == {0}
    assert 200 in {status for _, status in sonarr.connections.attempts}
