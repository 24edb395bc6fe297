"""What the doctor asks PostgreSQL itself, and what `/readyz` of a persister says."""

import asyncio
import contextlib
import json
import re
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import msgspec
import pytest
from nats.errors import Error as NatsError
from nats.js.errors import APIError

from mediabus.consumers.persister import run
from mediabus.consumers.persister.run import persist
from mediabus.runtime.nats.bus import Bus
from mediabus.runtime.postgres.database import Pool
from mediabus.runtime.settings import HttpSettings, PersisterSettings, Settings
from mediabus.schemas.events import JobExecuted
from mediabus.schemas.identity import Actor
from mediabus.wiring.parts import parts_of, working
from mediabus.wiring.registry import PERSIST
from tests.support.eventually import eventually
from tests.support.history import mediabus
from tests.support.ports import free_port
from tests.support.stream import is_handled, transaction

JOB = Actor("job", "nightly")


async def finding(settings: Settings, name: str) -> dict[str, Any]:
    outcome = await mediabus(settings, "doctor", "--json")
    findings = {one["name"]: one for one in map(json.loads, outcome.out.splitlines())}
    assert name in findings, outcome
    found: dict[str, Any] = findings[name]
    return found


@contextlib.asynccontextmanager
async def persisting(pool: Pool, bus: Bus) -> AsyncIterator[None]:
    task = asyncio.create_task(persist(bus, pool, PersisterSettings()))
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])


async def is_idle(bus: Bus) -> bool:
    try:
        return await is_handled(bus, "persister")
    except (NatsError, APIError):
        return False


async def test_doctor_finds_the_events_that_a_restored_database_lacks(
    settings: Settings, pool: Pool, bus: Bus
) -> None:
    """They are in the stream, and the persister has read past them."""
    async with persisting(pool, bus):
        for number in range(30):
            await bus.publish(JobExecuted(job_name=f"{number}"), actor=JOB)
        await bus.js.publish("events.a.b.c.-", b"no event")
        await eventually(lambda: is_idle(bus), within=30)
    assert (await finding(settings, "stored events"))["ok"]
    await pool.execute("DELETE FROM events WHERE stream_seq BETWEEN 10 AND 19")
    found = await finding(settings, "stored events")
    assert not found["ok"]
    assert found["found"] == "10 events of the stream are missing in PostgreSQL"
    since = found["advice"].split("--since ")[1].split("`")[0]
    replayed = await mediabus(settings, "replay", "--since", since)
    assert "10 missing ones stored" in replayed.out
    assert (await finding(settings, "stored events"))["ok"]


async def test_doctor_names_the_session_that_others_wait_for(
    settings: Settings, pool: Pool, bus: Bus
) -> None:
    assert bus.is_connected
    assert (await finding(settings, "locks"))["ok"]
    async with transaction(pool) as holder:
        pid = await holder.fetchval("SELECT pg_backend_pid()")
        await holder.execute("LOCK TABLE events IN ACCESS EXCLUSIVE MODE")
        waiting = asyncio.create_task(pool.fetchval("SELECT count(*) FROM events"))
        await eventually(lambda: pool.fetchval(WAITING))
        found = await finding(settings, "locks")
    await waiting
    assert not found["ok"]
    assert f"pid {pid} (postgres, mediabus, idle in transaction" in found["found"]
    assert "pg_terminate_backend" in found["advice"]


WAITING = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"


async def test_a_persister_that_stores_no_waiting_events_is_not_ready(
    settings: Settings, pool: Pool, bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "STALLED_AFTER", 1.0)
    monkeypatch.setattr(run, "POLL_EVERY", 0.1)
    port = free_port()
    here = msgspec.structs.replace(settings, http=HttpSettings(port=port))

    async def ready() -> tuple[int, str]:
        async with aiohttp.ClientSession() as session:
            answer = await session.get(f"http://127.0.0.1:{port}/readyz")
            return answer.status, await answer.text()

    async def is_ready(status: int) -> bool:
        return (await ready())[0] == status

    async with working(here, 0, parts_of(here, (PERSIST,))):
        await eventually(lambda: is_ready(200), within=20)
        async with transaction(pool) as holder:
            await holder.execute("LOCK TABLE events IN ACCESS EXCLUSIVE MODE")
            await bus.publish(JobExecuted(job_name="waits"), actor=JOB)
            await eventually(lambda: is_ready(503), within=20)
            _, text = await ready()
            assert "storing: no event stored for " in text
            assert re.search("1 events waiting: . wait for a lock that is held by pid ", text)
        await eventually(lambda: is_ready(200), within=20)
