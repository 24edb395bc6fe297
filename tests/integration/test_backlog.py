"""The lag of each consumer and the dead letters, as `mediabus service` measures them."""

import asyncio
from pathlib import Path

import pytest

from mediabus.consumers.daemon import durable
from mediabus.runtime import metrics
from mediabus.runtime.nats import backlog
from mediabus.runtime.nats.backlog import measure_backlog
from mediabus.runtime.nats.bus import Bus, connect
from mediabus.runtime.nats.streams import ensure_streams
from mediabus.runtime.settings import NatsSettings
from mediabus.schemas.subjects import PERSISTER
from mediabus.secure.nats_roles import SERVICE_PUBLISHES
from tests.support.eventually import eventually
from tests.support.notifying import publish
from tests.support.secured import secured_nats


@pytest.fixture(autouse=True)
def _measured_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backlog, "MEASURE_EVERY", 0.1)


async def test_lag_and_dead_letters_of_each_consumer(bus: Bus) -> None:
    await bus.js.add_consumer("EVENTS", durable(PERSISTER))
    await bus.js.add_consumer("EVENTS", durable("mine"))
    await publish(bus, "a", "b", "c")
    task = asyncio.create_task(measure_backlog(bus))
    try:
        await eventually(lambda: metrics.CONSUMER_LAG.get("EVENTS", "mine") == 3)
        assert metrics.DEAD_LETTERS.get("mine") == 0
        await bus.js.publish("dead_letters.mine.failed", b"x")
        await bus.js.publish("dead_letters.mine.invalid", b"y")
        await eventually(lambda: metrics.DEAD_LETTERS.get("mine") == 2)
        await bus.js.delete_consumer("EVENTS", "mine")
        await eventually(lambda: metrics.CONSUMER_LAG.get("EVENTS", "mine") is None)
        assert metrics.CONSUMER_LAG.get("EVENTS", PERSISTER) == 3
    finally:
        task.cancel()
        await asyncio.wait([task])
    assert metrics.CONSUMER_LAG.get("EVENTS", PERSISTER) is None
    assert metrics.DEAD_LETTERS.get(PERSISTER) is None


async def test_every_page_of_consumers_is_read(bus: Bus) -> None:
    names = {f"c{number}" for number in range(backlog.PAGE + 5)}
    for name in names:
        await bus.js.add_consumer("EVENTS", durable(name).evolve(mem_storage=True))
    assert {consumer for _, consumer in await backlog._lag(bus, "EVENTS")} == names


async def test_series_of_many_consumers_are_limited(
    bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backlog, "MAX_CONSUMERS", 2)
    for number in range(4):
        await bus.js.publish(f"dead_letters.c{number}.failed", b"x")
    counts = await backlog._dead_letters(bus)
    assert len(counts) == 3
    assert counts[backlog.OTHERS] == 2


async def test_service_key_may_list_consumers_and_an_older_key_leaves_the_lag_absent(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with secured_nats(tmp_path, ()) as server:
        async with connect(server.settings("service"), name="service", wait=10) as bus:
            await ensure_streams(bus, NatsSettings())
            await bus.js.add_consumer("EVENTS", durable(PERSISTER))
            await bus.js.publish("dead_letters.persister.failed", b"x")
            await backlog._measure(bus)
            assert metrics.CONSUMER_LAG.get("EVENTS", PERSISTER) == 0
        config = server.keys / "nats.conf"
        granted = [one for one in SERVICE_PUBLISHES if "CONSUMER.LIST" in one]
        text = config.read_text()
        for subject in granted:
            assert f'"{subject}"' in text
            text = text.replace(f'"{subject}"', '"unused"')
        config.write_text(text)
        server.stop()
        server.start()
        async with connect(server.settings("service"), name="service", wait=10) as bus:
            task = asyncio.create_task(measure_backlog(bus))
            await eventually(lambda: "consumers not measured" in caplog.text)
            assert metrics.CONSUMER_LAG.get("EVENTS", PERSISTER) is None
            await eventually(lambda: metrics.DEAD_LETTERS.get(PERSISTER) == 1)
            task.cancel()
            await asyncio.wait([task])
    assert caplog.text.count("consumers not measured") == 1
