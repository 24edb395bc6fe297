"""Three NATS servers and several processes of each kind.

If any of them is killed, no event is lost or stored twice, and the others continue.
"""

import asyncio
import base64
import collections
import random
import time
from collections.abc import AsyncIterator, Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import pytest
from nats.errors import Error as NatsError

from mediabus.consumers.daemon import durable
from mediabus.consumers.dead_letters import DeadLetters
from mediabus.runtime.nats.bus import Bus, connect
from mediabus.runtime.nats.streams import download_status, ensure_streams
from mediabus.runtime.postgres.database import Pool
from mediabus.runtime.settings import NatsSettings, Settings
from mediabus.schemas.subjects import DOWNLOAD_STATUS_STREAM, EVENTS_STREAM
from tests.support import daemons, torrents
from tests.support.cluster import ELECTED_WITHIN, STREAMS, NatsCluster, nats_cluster
from tests.support.commands import mediabus
from tests.support.eventually import eventually
from tests.support.library import Library, with_clients
from tests.support.load import Load, under_load
from tests.support.processes import Name, Process, processes
from tests.support.stream import event, is_handled, names

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

TAKEN_OVER_WITHIN = 15.0


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[NatsCluster]:
    with nats_cluster(tmp_path) as running:
        yield running


@pytest.fixture
def nats_url(cluster: NatsCluster) -> str:
    return cluster.url


@pytest.fixture
def settings(settings: Settings) -> Settings:
    replicated = msgspec.structs.replace(settings.nats, replicas=3)
    return msgspec.structs.replace(settings, nats=replicated)


@pytest.fixture
async def bus(settings: Settings) -> AsyncIterator[Bus]:
    async with connect(settings.nats, name="test", wait=10) as connected:
        await ensure_streams(connected, settings.nats)
        yield connected


@pytest.fixture
def library(bus: Bus, pool: Pool) -> Library:
    return Library(bus.nc, pool)


@pytest.fixture
def transmission() -> Iterator[daemons.Daemon]:
    with daemons.Transmission.started() as running:
        yield running


async def test_leaders_are_killed_again_and_again_under_load(
    settings: Settings,
    cluster: NatsCluster,
    library: Library,
    bus: Bus,
    transmission: daemons.Daemon,
    *,
    tmp_path: Path,
) -> None:
    settings = with_clients(settings, transmission.settings())
    kinds: list[Name] = [
        "service",
        "service",
        "monitor",
        "monitor",
        "persist",
        "persist",
        "persist",
    ]
    leaders = (lambda: cluster.stream_leader(EVENTS_STREAM), cluster.leader) * 2
    with processes(settings, tmp_path, *kinds) as running:
        async with under_load(library, bus) as load, transmission.settings().connect() as client:
            download = await library.ask("downloads.initiate", torrent())
            told = ["download.initiated"]
            acts = [(client.pause, "download.paused"), (client.resume, "download.resumed")] * 2
            for who, (act, kind) in zip(leaders, acts, strict=True):
                await eventually(cluster.is_whole, within=30)
                await eventually(lambda: load.stored_at > time.monotonic() - 0.5)
                victim = cluster.servers[await eventually(who)]
                killed_at = time.monotonic()
                victim.kill()
                await act(download["client_item"])
                await load.goes_on(killed_at)
                told.append(kind)
                await has_told(library, download["id"], told, within=ELECTED_WITHIN + 15)
                await asyncio.to_thread(victim.start)
        await eventually(cluster.is_whole, within=30)
        await eventually(lambda: all(process.is_ready for process in running), within=30)
        await eventually(lambda: is_empty(library.pool), within=60, every=0.25)
        await eventually(lambda: is_read(bus), within=60, every=0.25)
    assert await library.types(download["id"]) == told
    await each_is_stored_once(load, library.pool)
    assert await DeadLetters(bus).count() == 0


async def is_empty(pool: Pool) -> bool:
    return bool(await pool.fetchval("SELECT NOT EXISTS (SELECT FROM outbox)"))


async def is_read(bus: Bus) -> bool:
    try:
        return await is_handled(bus, "persister")
    except (NatsError, TimeoutError):  # it has lost its leader with the server
        return False


async def each_is_stored_once(load: Load, pool: Pool) -> None:
    rows = await pool.fetch("SELECT id, correlation_id FROM events")
    stored = collections.Counter(row["id"] for row in rows)
    told = collections.Counter(row["correlation_id"] for row in rows if row["correlation_id"])
    assert len(load.published) > 100
    assert len(load.operations) > 100
    assert load.published - stored.keys() == set()
    assert load.operations - told.keys() == set()
    assert {**stored, **told} == dict.fromkeys({**stored, **told}, 1)


async def test_one_monitor_watches_a_client_and_another_takes_over(
    settings: Settings,
    cluster: NatsCluster,
    library: Library,
    transmission: daemons.Daemon,
    tmp_path: Path,
) -> None:
    settings = with_clients(settings, transmission.settings())
    kinds: list[Name] = ["service", "persist", "monitor", "monitor"]
    with processes(settings, tmp_path, *kinds) as (_, _, *monitors):
        async with transmission.settings().connect() as client:
            download = await library.ask("downloads.initiate", torrent())
            item, told = download["client_item"], ["download.initiated"]
            for act, kind in ((client.pause, "paused"), (client.resume, "resumed")):
                await eventually(lambda: len([one for one in monitors if watches(one)]) == 1)
                [watching] = [one for one in monitors if watches(one)]
                watching.kill()
                await act(item)
                told.append(f"download.{kind}")
                await has_told(library, download["id"], told, within=TAKEN_OVER_WITHIN)
                watching.start()
                await eventually(partial(is_ready, watching), within=30)
            victim = cluster.servers[await eventually(leader_of_the_bucket(cluster))]
            victim.kill()
            await client.pause(item)
            told.append("download.paused")
            await has_told(library, download["id"], told, within=ELECTED_WITHIN + 15)
            await asyncio.to_thread(victim.start)
            await eventually(cluster.is_whole, within=30)
            assert await library.types(download["id"]) == told


def torrent() -> dict[str, Any]:
    shared = torrents.make_torrent("one.bin", random.randbytes(100_000), "http://127.0.0.1:9/")
    return {"title": "One", "torrent": base64.b64encode(shared.content).decode()}


def is_ready(process: Process) -> bool:
    return process.is_ready


def watches(monitor: Process) -> bool:
    return monitor.says("lease acquired", lease="monitor.transmission")


def leader_of_the_bucket(cluster: NatsCluster) -> Callable[[], str | None]:
    return lambda: cluster.stream_leader(DOWNLOAD_STATUS_STREAM)


async def has_told(library: Library, download: str, types: list[str], *, within: float) -> None:
    async def so_far() -> bool:
        found = await library.types(download)
        assert found == types[: len(found)]
        return len(found) == len(types)

    await eventually(so_far, within=within, every=0.1)


async def test_streams_and_bucket_of_one_server_get_three_replicas(
    cluster: NatsCluster, settings: Settings
) -> None:
    alone = msgspec.structs.replace(settings.nats, replicas=1)
    async with connect(alone, name="test", wait=10) as bus:
        await ensure_streams(bus, alone)
        await bus.publish_envelope(event("kept"))
        await (await download_status(bus)).put("client.item", b"{}")
        await bus.js.add_consumer(EVENTS_STREAM, durable("theirs"))
        made = [(await bus.js.stream_info(stream)).created for stream in STREAMS]
        assert not cluster.is_whole()
        await ensure_streams(bus, settings.nats)
        await eventually(cluster.is_whole, within=30)
        await eventually(lambda: has_three_copies(bus, "theirs"), within=30)
        assert [(await bus.js.stream_info(stream)).created for stream in STREAMS] == made
        killed = cluster.stream_leader(EVENTS_STREAM) or ""
        cluster.servers[killed].kill()
        await eventually(lambda: are_there(bus), within=45)
        await eventually(lambda: doctor_names(killed, cluster.url), within=30)


async def doctor_names(server: str, url: str) -> bool:
    outcome = await mediabus("doctor", "--json", MEDIABUS_NATS_URL=url)
    findings = {one["name"]: one for one in map(msgspec.json.decode, outcome.out.splitlines())}
    advice = findings[f"stream {EVENTS_STREAM}"].get("advice") or ""
    return f"check that the NATS server {server} is running" in advice


async def has_three_copies(bus: Bus, consumer: str) -> bool:
    cluster = (await bus.js.consumer_info(EVENTS_STREAM, consumer)).cluster
    if cluster is None or cluster.leader is None:
        return False
    return [copy.current for copy in cluster.replicas or []] == [True, True]


async def are_there(bus: Bus) -> bool:
    try:
        entry = await (await download_status(bus)).get("client.item")
        await bus.js.consumer_info(EVENTS_STREAM, "theirs")
        events = await names(bus)
    except (NatsError, TimeoutError):
        return False  # each has a leader of its own to elect
    return entry.value == b"{}" and events == ["kept"]


async def test_too_few_servers_for_the_replicas_are_logged_once(
    cluster: NatsCluster, caplog: pytest.LogCaptureFixture
) -> None:
    settings = NatsSettings(url=cluster.url, replicas=5)
    async with connect(settings, name="test", wait=10) as bus:
        making = asyncio.create_task(ensure_streams(bus, settings))
        await eventually(
            lambda: any(
                "nats.replicas is 5" in getattr(one, "reason", "") for one in caplog.records
            )
        )
        await asyncio.wait([making], timeout=2)
        assert not making.done()
        reasons = [getattr(one, "reason", "") for one in caplog.records]
        assert sum("nats.replicas is 5" in reason for reason in reasons) == 1
        making.cancel()
