"""Each kind of fault has its effect while it lasts, and no longer."""

import asyncio
import contextlib
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from pathlib import Path

import asyncpg
import psutil
import pytest

from chaos.faults import KINDS, Stage
from chaos.ledger import Ledger
from chaos.load import Load
from chaos.network import HOST
from chaos.run import impossible
from chaos.world import NATS, POSTGRES, World, server_disks
from mediabus.runtime.nats.bus import PublishFailed, connect
from mediabus.runtime.postgres.database import AWAY, open_pool
from mediabus.runtime.settings import DatabaseSettings, NatsSettings
from mediabus.schemas.subjects import EVENTS_STREAM
from tests.support.eventually import eventually
from tests.support.stream import event

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

PERSISTER = "persister 1"
LINK = f"{PERSISTER} - {NATS}"


async def test_each_fault_takes_effect_and_ends(tmp_path: Path) -> None:
    excluded = impossible(tmp_path)
    async with staged(tmp_path) as stage:
        for kind, (target, is_happening) in SIGNS.items():
            if kind in excluded:
                continue
            await eventually(partial(is_ready, stage), within=30)
            await eventually(partial(is_not, is_happening, stage), within=30)
            async with KINDS[kind].happens(stage, target):
                await eventually(partial(is_happening, stage), within=10)
            await eventually(partial(is_not, is_happening, stage), within=30)
        await jetstream_forgets(stage)
    assert {*SIGNS, "JetStream forgets"} == KINDS.keys()


@contextlib.asynccontextmanager
async def staged(folder: Path) -> AsyncIterator[Stage]:
    """Run a world without load."""
    with server_disks(folder) as disks:
        world = World(folder, disks)
        async with (
            world.running(),
            connect(NatsSettings(url=world.nats_url), name="test") as bus,
            open_pool(DatabaseSettings(url=world.database_url), size=2) as pool,
        ):
            load = Load(bus, Ledger(folder / "ledger"), operations=1, publishes=1)
            yield Stage(world, load, pool)


async def is_not(is_happening: Callable[[Stage], Awaitable[bool]], stage: Stage) -> bool:
    return not await is_happening(stage)


async def is_ready(stage: Stage) -> bool:
    """Wait for this before a stop: SIGTERM kills a process that is still starting."""
    return b'"ready"' in stage.unit(PERSISTER).log_since_start()


async def is_gone(stage: Stage) -> bool:
    unit = stage.unit(PERSISTER)
    return unit.has_ended and b'"shutting down"' not in unit.log_since_start()


async def has_left(stage: Stage) -> bool:
    unit = stage.unit(PERSISTER)
    return unit.has_ended and b'"shutting down"' in unit.log_since_start()


async def is_suspended(stage: Stage, target: str = POSTGRES) -> bool:
    family = stage.unit(target).processes()
    return all(process.status() == psutil.STATUS_STOPPED for process in family)


async def greeting(stage: Stage) -> tuple[bytes, float]:
    """Return the first bytes from NATS through the link, and the seconds they took."""
    started_at = time.monotonic()
    reader, writer = await asyncio.open_connection(HOST, stage.world.links[LINK].port)
    try:
        async with asyncio.timeout(2):
            words = await reader.read(4)
    except TimeoutError:
        words = b"..."
    except ConnectionError:
        words = b""
    finally:
        writer.transport.abort()
    return words, time.monotonic() - started_at


async def is_cut(stage: Stage) -> bool:
    return (await greeting(stage))[0] == b""


async def is_silent(stage: Stage) -> bool:
    return (await greeting(stage))[0] == b"..."


async def is_slow(stage: Stage) -> bool:
    words, seconds = await greeting(stage)
    return words == b"INFO" and seconds >= 0.25


async def is_lossy(stage: Stage) -> bool:
    return stage.world.links[LINK].loss > 0


async def is_full(stage: Stage) -> bool:
    return os.statvfs(stage.world.disks[NATS].folder).f_bavail == 0


async def clock_of_postgres(stage: Stage) -> int:
    """Return the hours that a new connection sees PostgreSQL ahead; 0 if it does not answer."""
    try:
        connection = await asyncpg.connect(stage.world.database_url, timeout=5)
    except AWAY:
        return 0
    try:
        now = await connection.fetchval("SELECT extract(epoch FROM clock_timestamp())")
    finally:
        await connection.close()
    return round((float(now) - time.time()) / 3600)


async def is_ahead(stage: Stage) -> bool:
    return await clock_of_postgres(stage) == 1


async def is_behind(stage: Stage) -> bool:
    return await clock_of_postgres(stage) == -1


SIGNS: dict[str, tuple[str, Callable[[Stage], Awaitable[bool]]]] = {
    "kill -9": (PERSISTER, is_gone),
    "restart": (PERSISTER, has_left),
    "SIGSTOP": (POSTGRES, is_suspended),
    "network cut": (LINK, is_cut),
    "network silent": (LINK, is_silent),
    "network slow": (LINK, is_slow),
    "network lossy": (LINK, is_lossy),
    "disk full": (NATS, is_full),
    "clock +1 h": (POSTGRES, is_ahead),
    "clock -1 h": (POSTGRES, is_behind),
}
"""By kind of fault: its target, and the check that it is happening."""


async def jetstream_forgets(stage: Stage) -> None:
    """Check that events acknowledged during the fault are lost and were not stored."""
    envelope = event("published")

    async def acknowledged() -> bool:
        with contextlib.suppress(PublishFailed):
            await stage.load.bus.publish_envelope(envelope)
            return True
        return False

    await eventually(acknowledged, within=30)
    kept = await last_sequence(stage)
    await eventually(lambda: is_stored(stage, envelope.id), within=30)
    envelope = event("published")
    async with KINDS["JetStream forgets"].happens(stage, NATS):
        await eventually(acknowledged, within=30)
        assert await last_sequence(stage) == kept + 1
        assert await is_suspended(stage, "persister 1")
        assert await is_suspended(stage, "persister 2")
    assert await last_sequence(stage) == kept
    assert not await is_stored(stage, envelope.id)
    assert [epoch.kept for epoch in stage.epochs] == [kept]
    assert len(stage.epochs[0].stored) == 1


async def last_sequence(stage: Stage) -> int:
    return (await stage.load.bus.js.stream_info(EVENTS_STREAM)).state.last_seq


async def is_stored(stage: Stage, event_id: object) -> bool:
    rows = await stage.pool.fetch("SELECT FROM events WHERE id = $1", event_id)
    return len(rows) == 1
