"""Webhooks and CloudEvents over HTTP on an installation with keys, over TLS.

Each process has its own key. What comes over HTTP has no key: its actor is a claim, and its source
is not that of a key.
"""

import contextlib
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from mediabus.runtime.nats.bus import Bus, connect
from mediabus.runtime.postgres.database import Pool
from mediabus.runtime.settings import DatabaseSettings, IngestSettings, Settings
from mediabus.schemas.events import JobExecuted
from mediabus.schemas.identity import Actor
from mediabus.service.apps.configured import app_settings
from mediabus.wiring.registry import PERSIST, SERVICE
from tests.support.apps import Sonarr
from tests.support.eventually import eventually
from tests.support.http_in import Reply, send
from tests.support.processes import HOST, Process, processes
from tests.support.secured import SecuredNats, secured_nats

TOKEN = "a-token-of-sixteen-or-more"
HASH = "ABCDEF0123456789ABCDEF0123456789ABCDEF01"
EVENT = """
SELECT type, source, actor_type, actor_id, actor_verified FROM events WHERE type = $1
"""


@pytest.fixture
def secured(tmp_path: Path) -> Iterator[SecuredNats]:
    with secured_nats(tmp_path) as server:
        yield server


class Installation:
    """`mediabus service` and `mediabus persist`, each with its key, and an application."""

    def __init__(self, service: Process, persist: Process, sonarr: Sonarr, pool: Pool) -> None:
        self.service, self.persist, self.sonarr, self.pool = service, persist, sonarr, pool
        self.base = f"http://{HOST}:{service.port}"

    async def is_accepted(self, series: Any, number: int, item: str) -> bool:
        """Report a blocked import, and return whether it was stored in time."""
        self.sonarr._asked_about.clear()
        await self.sonarr.require_interaction(series, [number], item, ["sample"])
        return self.sonarr.connections.attempts[-1][1] == 200

    async def post(self, event_id: str, **members: Any) -> Reply:
        """Send a CloudEvent over HTTP."""
        event = {"specversion": "1.0", "id": event_id, "source": "backup", "type": "my.own"}
        return await send(f"{self.base}/events", event | members, Authorization=f"Bearer {TOKEN}")

    async def stored(self, event_type: str) -> tuple[Any, ...]:
        """Return the one event of a type, waited for."""

        async def arrived() -> list[Any]:
            rows: list[Any] = await self.pool.fetch(EVENT, event_type)
            return rows

        (row,) = await eventually(arrived, within=30)
        return tuple(row)


@pytest.fixture
async def installed(
    secured: SecuredNats, pool: Pool, database_url: str, tmp_path: Path
) -> AsyncIterator[Installation]:
    async with Sonarr.running() as sonarr:
        app = {"name": "tv", "kind": "sonarr", "url": sonarr.url, "api_key": sonarr.api_key}
        plain = Settings(
            database=DatabaseSettings(url=database_url),
            ingest=IngestSettings(token=TOKEN),
            apps=[{**app, "poll": 600.0}],
        )
        (configured,) = app_settings(plain, {})
        with contextlib.ExitStack() as stack:
            started = {}
            for process in (SERVICE, PERSIST):
                own = msgspec.structs.replace(plain, nats=secured.settings(process.key))
                (started[process.name],) = stack.enter_context(
                    processes(own, tmp_path, "service" if process is SERVICE else "persist")
                )
            service, persist = started[SERVICE.name], started[PERSIST.name]
            here = Installation(service, persist, sonarr, pool)
            sonarr.connections.add(f"{here.base}/hooks/tv/{configured.token}")

            async def is_met() -> object:
                return await pool.fetchval("SELECT max(read_at) FROM apps")

            await eventually(is_met, within=30)
            yield here
        logs = service.log.read_text() + persist.log.read_text()
        assert "violation" not in logs.lower()
        for secret in (TOKEN, configured.token, sonarr.api_key):
            assert secret not in logs


@contextlib.asynccontextmanager
async def person(secured: SecuredNats) -> AsyncIterator[Bus]:
    """A connection with the key of user 42."""
    async with connect(secured.settings("user-42"), name="person", wait=20) as bus:
        yield bus


@pytest.mark.timeout(180)
async def test_webhooks_are_stored_and_wake_the_reader(
    installed: Installation, secured: SecuredNats
) -> None:
    series = installed.sonarr.put_series("Severance")
    await eventually(lambda: installed.is_accepted(series, 1, HASH), within=30, every=0.5)
    blocked = await installed.stored("download.import_blocked")
    assert blocked == ("download.import_blocked", "mediabus/tv", "system", "tv", False)
    # The next poll is ten minutes away: only the webhook makes the service read this row.
    await installed.sonarr.grab(series, [1], HASH, trigger="InteractiveSearch")
    grabbed = await installed.stored("release.grabbed")
    assert grabbed == ("release.grabbed", "mediabus/tv", "user", "tv", False)
    assert installed.sonarr.connections.attempts[-1] == ("Grab", 200)
    secured.kill()
    assert not await installed.is_accepted(series, 2, "nzo_2")
    assert installed.sonarr.connections.attempts[-1][1] == 503
    secured.start()
    await eventually(lambda: installed.is_accepted(series, 2, "nzo_2"), within=30, every=0.5)


@pytest.mark.timeout(180)
async def test_events_over_http_cannot_pass_for_those_of_a_key(
    installed: Installation, secured: SecuredNats
) -> None:
    claim = {"actortype": "user", "actorid": "42", "actorverified": True}
    assert (await installed.post("1", **claim)).status == 200
    assert await installed.stored("my.own") == ("my.own", "backup", "user", "42", False)
    for source in ("user/42/backup", "job/hook", "System/api", "mediabus/tv"):
        refused = await installed.post("2", source=source)
        assert (refused.status, refused.body["status"]) == (400, "invalid"), source
    async with person(secured) as bus:
        claimed = Actor("system", "mediabus")
        await bus.publish(JobExecuted(job_name="scan"), actor=claimed)
    proven = await installed.stored("job.executed")
    assert proven == ("job.executed", "user/42/person", "user", "42", True)
    assert (await send(f"{installed.base}/events", {}, Authorization="Bearer x")).status == 401
    assert await installed.pool.fetchval("SELECT count(*) FROM events WHERE type = 'my.own'") == 1
