"""Each figure is measured by the process that knows it, and absent everywhere else."""

import asyncio
import datetime
import importlib.metadata
from pathlib import Path

import msgspec
import pytest
from prometheus_client import REGISTRY

from mediabus.consumers.daemon import durable
from mediabus.consumers.notifier import figures
from mediabus.consumers.persister import run as persister_run
from mediabus.runtime import metrics
from mediabus.runtime.nats import backlog
from mediabus.runtime.nats.backlog import measure_backlog
from mediabus.runtime.nats.bus import Bus, connect
from mediabus.runtime.nats.streams import ensure_streams
from mediabus.runtime.postgres.database import Pool
from mediabus.runtime.process.health import serving
from mediabus.runtime.settings import HttpSettings, NatsSettings, PersisterSettings, Settings
from mediabus.schemas.subjects import PERSISTER
from mediabus.service.ingest.serve import serve_keys
from mediabus.service.outbox.relay import Relay
from tests.support.apps import Sonarr
from tests.support.apps.reading import reading, so_many
from tests.support.eventually import eventually
from tests.support.metrics_docs import Scraped, scrape
from tests.support.monitored import monitored
from tests.support.notifying import config_of, idle, notifying, publish
from tests.support.processes import Name, processes
from tests.support.receiver import receiving, status
from tests.support.scripted import scripted
from tests.support.secured import secured_nats
from tests.support.servers import NatsServer
from tests.support.stream import event, record

BELONGS_TO = {
    "mediabus_outbox_waiting": "service",
    "mediabus_outbox_oldest_unpublished_seconds": "service",
    "mediabus_consumer_lag": "service",
    "mediabus_dead_letters": "service",
    "mediabus_events_behind": "persist",
    "mediabus_download_client_reachable": "monitor",
    "mediabus_downloads": "monitor",
    "mediabus_mqtt_connected": "mqtt",
    "mediabus_app_reachable": "service, with an application",
    "mediabus_notify_failing": "notify",
}


@pytest.fixture(autouse=True)
def _measured_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backlog, "MEASURE_EVERY", 0.1)
    monkeypatch.setattr(figures, "READ_EVERY", 0.1)
    monkeypatch.setattr(persister_run, "POLL_EVERY", 0.1)
    for gauge in (metrics.OUTBOX_WAITING, metrics.OUTBOX_OLDEST):
        gauge.clear()  # of a test whose relay never ran


async def test_process_exposes_only_gauges_that_it_measures(
    settings: Settings, tmp_path: Path
) -> None:
    names: tuple[Name, ...] = ("service", "persist", "web")
    settings = msgspec.structs.replace(
        settings, web=msgspec.structs.replace(settings.web, auth="none")
    )
    with processes(settings, tmp_path, *names) as started:
        ports = {process.name: process.port for process in started}

        async def all_measured() -> dict[Name, Scraped] | None:
            shown = {name: await scrape(port) for name, port in ports.items()}
            expected = [
                shown[process].has(name)
                for name, owner in BELONGS_TO.items()
                for process in shown
                if process == owner
            ]
            return shown if all(expected) else None

        shown = await eventually(all_measured, within=30)
    for name, owner in BELONGS_TO.items():
        assert [one for one in names if shown[one].has(name)] == [owner][: owner in shown], name
    for one in names:
        checks = {"nats", "started"} | (set() if one == "web" else {"postgresql"})
        assert {*checks, *(["storing"] if one == "persist" else [])} == {
            sample.labels["check"]
            for sample in shown[one].samples
            if sample.name == "mediabus_ready"
        }
        version = importlib.metadata.version("mediabus")
        assert shown[one].has("mediabus_build_info", version=version)


async def test_ready_has_the_result_of_each_check() -> None:
    async def passes() -> str | None:
        return None

    async def fails() -> str | None:
        return "not today"

    async def breaks() -> str | None:
        raise RuntimeError("unforeseen")

    checks = {"good": passes, "bad": fails, "broken": breaks}
    async with serving(HttpSettings(port=0), default_port=0, checks=checks) as port:
        shown = await scrape(port)
    assert shown.value("mediabus_ready", check="good") == 1
    assert shown.value("mediabus_ready", check="bad") == 0
    assert shown.value("mediabus_ready", check="broken") == 0


async def test_age_of_the_oldest_unpublished_row_counts_from_its_recording(
    pool: Pool, bus: Bus
) -> None:
    relay = Relay(pool, bus, confirm_in_events=True)
    await relay.cursor.load()
    await record(pool, "new")
    await pool.execute("UPDATE outbox SET occurred_at = now() - interval '3 years'")
    await relay.confirmation.confirm()
    age = metrics.OUTBOX_OLDEST.get()
    assert age is not None
    assert 0 < age < 60
    await pool.execute("UPDATE outbox SET recorded_at = now() - interval '1 hour'")
    await relay.confirmation.confirm()
    assert 3600 <= (metrics.OUTBOX_OLDEST.get() or 0) < 3700
    await relay.relay_batch()
    await relay.confirmation.confirm()
    assert metrics.OUTBOX_OLDEST.get() == 0
    assert metrics.OUTBOX_WAITING.get() == 1  # the persister has not stored it


async def test_relay_figures_go_when_the_relay_ends(pool: Pool, bus: Bus) -> None:
    task = asyncio.create_task(Relay(pool, bus, confirm_in_events=True).run())
    await eventually(lambda: metrics.OUTBOX_WAITING.get() is not None)
    assert metrics.OUTBOX_OLDEST.get() == 0
    task.cancel()
    await asyncio.wait([task])
    assert metrics.OUTBOX_WAITING.get() is None
    assert metrics.OUTBOX_OLDEST.get() is None


async def test_figures_are_absent_while_nats_is_away(
    bus: Bus, nats: NatsServer, pool: Pool
) -> None:
    await bus.js.add_consumer("EVENTS", durable(PERSISTER))
    task = asyncio.create_task(measure_backlog(bus))
    storing = asyncio.create_task(persister_run.persist(bus, pool, PersisterSettings()))
    measured = (metrics.EVENTS_BEHIND,)
    try:
        await eventually(lambda: metrics.CONSUMER_LAG.get("EVENTS", PERSISTER) == 0)
        await eventually(lambda: all(one.get() == 0 for one in measured))
        nats.kill()
        await eventually(lambda: all(one.get() is None for one in measured), within=20)
        await eventually(lambda: metrics.CONSUMER_LAG.get("EVENTS", PERSISTER) is None, within=20)
        nats.start()
        await eventually(lambda: all(one.get() == 0 for one in measured), within=20)
        await eventually(lambda: metrics.CONSUMER_LAG.get("EVENTS", PERSISTER) == 0, within=20)
    finally:
        for one in (task, storing):
            one.cancel()
        await asyncio.wait([task, storing])
    assert metrics.EVENTS_BEHIND.get() is None


async def test_events_of_keys_are_counted_from_zero(tmp_path: Path) -> None:
    with secured_nats(tmp_path, ()) as server:
        async with connect(server.settings("service"), name="service", wait=10) as bus:
            await ensure_streams(bus, NatsSettings())
            before = counted("mediabus_events_ingested_total", outcome="stored") or 0
            async with (
                serve_keys(bus),
                connect(server.settings("publisher"), name="publisher", wait=10) as publisher,
            ):
                assert counted("mediabus_events_ingested_total", outcome="unavailable") == 0
                mine = msgspec.structs.replace(event("mine"), source="my/program")
                await publisher.publish_envelope(mine)
                stored = counted("mediabus_events_ingested_total", outcome="stored")
    assert stored == before + 1


async def test_downloads_and_rate_of_a_client_follow_its_polls(pool: Pool, bus: Bus) -> None:
    script, client = scripted()
    script.show("a", "downloading", download_rate=1000)
    script.show("b", "downloading", download_rate=500)
    script.show("c", "paused")
    async with monitored(pool, bus, client):
        await eventually(lambda: metrics.DOWNLOADS.get("script", "downloading") == 2)
        assert metrics.DOWNLOADS.get("script", "paused") == 1
        assert metrics.DOWNLOADS.get("script", "failed") == 0
        assert metrics.DOWNLOAD_RATE.get("script") == 1500
        script.away_for = 1000
        await eventually(lambda: metrics.CLIENT_REACHABLE.get("script") == 0)
        assert metrics.DOWNLOADS.get("script", "paused") is None
        assert metrics.DOWNLOAD_RATE.get("script") is None
        script.away_for = 0
        await eventually(lambda: metrics.DOWNLOADS.get("script", "paused") == 1)
    assert metrics.CLIENT_REACHABLE.get("script") is None
    assert metrics.DOWNLOADS.get("script", "paused") is None
    assert counted("mediabus_download_status_written_total", client="script") is None


async def test_figures_of_an_application(settings: Settings) -> None:
    async with Sonarr.running() as sonarr:
        async with reading(settings, sonarr, poll=0.2) as user:
            await eventually(lambda: metrics.APP_REACHABLE.get("sonarr") == 1)
            assert metrics.APP_LAG.get("sonarr") is None
            series = sonarr.put_series("Severance", episodes=2)
            await sonarr.grab(series, [1, 2], "A" * 40)
            await so_many(user, 1, "release.grabbed")
            await eventually(lambda: metrics.APP_LAG.get("sonarr") is not None)
            assert 0 <= (metrics.APP_LAG.get("sonarr") or 0) < 60
            now = datetime.datetime.now(datetime.UTC).timestamp()
            assert now - 60 < (metrics.APP_LAST_SUCCESS.get("sonarr") or 0) <= now + 1
            assert counted("mediabus_app_rows_total", app="sonarr") == 2
            assert counted("mediabus_app_events_total", app="sonarr") == 1
            await sonarr.stop()
            await eventually(lambda: metrics.APP_REACHABLE.get("sonarr") == 0, within=20)
        for gauge in (metrics.APP_REACHABLE, metrics.APP_LAST_SUCCESS, metrics.APP_LAG):
            assert gauge.get("sonarr") is None
        assert counted("mediabus_app_rows_total", app="sonarr") is None


async def test_figures_of_a_target(bus: Bus) -> None:
    async with receiving() as receiver:
        config = config_of({"name": "hook", "webhook": receiver.url}, retry_delays=["0.3s"])
        receiver.answers = [status(500)] * 3
        async with notifying(bus, config):
            await publish(bus, "a")
            await eventually(lambda: metrics.NOTIFY_RETRYING.get("hook") == 1)
            await eventually(lambda: metrics.NOTIFY_FAILING.get("hook") == 1)
            await idle(bus, "hook")
            await eventually(lambda: metrics.NOTIFY_FAILING.get("hook") == 0)
            assert metrics.NOTIFY_RETRYING.get("hook") == 0
            attempts = {
                outcome: counted("mediabus_notifications_total", target="hook", outcome=outcome)
                for outcome in figures.OUTCOMES
            }
            assert attempts == {"delivered": 1, "retried": 3, "failed": 0}
            receiver.answers = [status(400)]
            await publish(bus, "b")
            await idle(bus, "hook")
            assert counted("mediabus_notifications_total", target="hook", outcome="failed") == 1
    for gauge in (metrics.NOTIFY_FAILING, metrics.NOTIFY_RETRYING):
        assert gauge.get("hook") is None
    assert counted("mediabus_notifications_total", target="hook", outcome="failed") is None


def counted(name: str, **labels: str) -> float | None:
    """Return the value of a counter of this process; None if it is absent."""
    return REGISTRY.get_sample_value(name, labels)
