"""Polling intervals of the watcher, and outages of its client."""

import asyncio

import msgspec

from mediabus.runtime.nats.bus import Bus
from mediabus.runtime.postgres.database import Pool
from mediabus.runtime.settings import MonitorSettings
from mediabus.schemas.status import ClientName, ItemId, Phase
from mediabus.schemas.subjects import LOOK_SUBJECT
from mediabus.service.downloads.bucket import read
from mediabus.service.monitor.watch.watcher import Watcher
from tests.support.eventually import eventually
from tests.support.monitored import has, is_shown, monitored, said
from tests.support.scripted import Script, ScriptedSettings, scripted


def watcher_of(bus: Bus, settings: ScriptedSettings, **monitor: float) -> Watcher:
    async def nothing(_: ClientName) -> set[ItemId]:
        return set()

    return Watcher(bus, settings, MonitorSettings(**monitor), nothing)


async def short_outage(script: Script) -> None:
    """Of one look. The next finds it back."""
    looks, script.away_for = script.looks, 1
    await eventually(lambda: script.looks >= looks + 2)


async def test_short_outages_are_not_reported_and_a_long_one_once(pool: Pool, bus: Bus) -> None:
    script, settings = scripted()
    settings = msgspec.structs.replace(settings, poll_active=0.02, poll_idle=0.02)
    clock = asyncio.get_running_loop().time
    async with monitored(pool, bus, settings):
        await eventually(lambda: pool.fetchval("SELECT 1 FROM download_clients WHERE reachable"))
        began = clock()
        for _ in range(50):
            await short_outage(script)
        assert clock() - began > 1.0, "not longer than a lasting outage"
        assert await pool.fetchval("SELECT reachable FROM download_clients")
        assert await said(pool) == []
        script.away_for = 1_000_000
        await eventually(lambda: said(pool))
        script.away_for = 0
        await eventually(lambda: pool.fetchval("SELECT 1 FROM download_clients WHERE reachable"))
    types = [kind for kind, _ in await said(pool)]
    assert types == ["download_client.unreachable", "download_client.recovered"]


async def test_outage_does_not_count_towards_a_stall(bus: Bus) -> None:
    script, settings = scripted()
    script.show("it", "downloading")
    watcher = watcher_of(bus, settings, stalled_after=1.0)

    async def idle_for() -> int:
        await watcher.poll(script)
        shown = await read(bus)
        return shown.downloads[ClientName("script"), ItemId("it")].idle_for

    assert await idle_for() == 0
    script.away_for = 1
    await watcher.poll(script)
    await asyncio.sleep(1.1)
    assert await idle_for() == 0
    await asyncio.sleep(1.1)
    assert await idle_for() >= 1


async def test_client_is_polled_every_2_s_while_active_else_every_15_s(
    bus: Bus,
) -> None:
    script, settings = scripted()
    watcher = watcher_of(bus, ScriptedSettings(name="script", url=settings.url))
    pauses = {}
    for phase in Phase:
        script.show("it", phase)
        pauses[phase] = await watcher.poll(script)
    idle = {Phase.PAUSED, Phase.COMPLETED, Phase.FAILED, Phase.UNKNOWN}
    assert pauses == {phase: 15.0 if phase in idle else 2.0 for phase in Phase}
    script.items.clear()
    script.restart()
    assert await watcher.poll(script) == 2.0, "what is missing is to be looked for soon"


async def test_idle_client_is_polled_at_once_after_an_operation(pool: Pool, bus: Bus) -> None:
    script, settings = scripted()
    script.show("it", "downloading")
    async with monitored(pool, bus, msgspec.structs.replace(settings, poll_idle=600.0)):
        await eventually(lambda: is_shown(bus, "it", Phase.DOWNLOADING))
        script.show("it", "completed")
        await eventually(lambda: is_shown(bus, "it", Phase.COMPLETED))
        await eventually(lambda: has(pool, "completed", "it"))  # no untracked download to look for
        looks = script.looks
        script.show("other", "paused")
        await asyncio.sleep(0.5)  # five looks at one that is active
        assert script.looks == looks
        await bus.nc.publish(f"{LOOK_SUBJECT}.script")
        await eventually(lambda: is_shown(bus, "other", Phase.PAUSED))
        assert script.looks == looks + 1
