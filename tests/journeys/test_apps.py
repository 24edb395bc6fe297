"""The history of an application becomes events once each, even if processes are killed."""

import asyncio
import hashlib
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
GRABBED = """
SELECT data->>'client_item' FROM events WHERE type = 'release.grabbed' ORDER BY stream_seq
"""


def infohash(number: int) -> str:
    return hashlib.sha1(str(number).encode(), usedforsecurity=False).hexdigest()


async def is_ready(process: Process) -> bool:
    return process.is_ready


async def is_met(pool: Pool) -> bool:
    return bool(await pool.fetchval("SELECT count(*) FROM apps WHERE read_at IS NOT NULL"))


async def act(sonarr: Sonarr, series: Any, start: int) -> None:
    """Grab a release for each of the next episodes."""
    for number in range(start, start + ROWS // ROUNDS):
        await sonarr.grab(series, [number + 1], infohash(number).upper())


@pytest.mark.slow
@pytest.mark.timeout(240)
async def test_thousand_rows_are_a_thousand_events_in_order_through_kills_and_outages(
    pool: Pool, nats: NatsServer, settings: Settings, tmp_path: Path
) -> None:
    """Every second webhook is lost, Sonarr restarts twice, and the service is killed five times."""
    async with Sonarr.running() as sonarr:
        app: dict[str, Any] = {"name": "tv", "kind": "sonarr", "poll": 1}
        app |= {"url": sonarr.url, "api_key": sonarr.api_key}
        settings = msgspec.structs.replace(settings, apps=[app])
        (configured,) = app_settings(settings, {})
        series = sonarr.put_series("Severance", episodes=ROWS)
        with processes(settings, tmp_path, "service", "persist") as (service, _):
            await eventually(lambda: is_met(pool), within=30)
            hook = f"http://{HOST}:{service.port}/hooks/tv/{configured.token}"
            sonarr.connections.add(hook)
            sonarr.connections.drop = lambda number: number % 2 == 1
            for turn in range(ROUNDS):
                await act(sonarr, series, turn * ROWS // ROUNDS)
                if turn in {3, 6, 9, 12, 15}:
                    service.kill()
                    service.start()
                if turn in {5, 11}:
                    await sonarr.restart()
                if turn == 7:
                    nats.kill()
                if turn == 10:
                    await asyncio.sleep(5)  # the outage lasts through some polls
                    nats.start()

            async def found() -> list[str]:
                return [row[0] for row in await pool.fetch(GRABBED)]

            async def are_all_stored() -> bool:
                return len(await found()) >= ROWS

            await eventually(are_all_stored, within=90, every=0.5)
            await eventually(lambda: is_ready(service), within=30)
            assert await found() == [infohash(number) for number in range(ROWS)]
            statuses = {status for _, status in sonarr.connections.attempts}
            assert {0, 200} <= statuses
