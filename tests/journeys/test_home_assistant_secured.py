"""`mediabus mqtt` with its own key, which may read and pause, and nothing else."""

import base64
from pathlib import Path

import pytest
from nats.errors import Error as NatsError

from mediabus.runtime.nats.bus import PublishFailed, connect
from mediabus.runtime.postgres.database import open_pool
from mediabus.runtime.settings import DatabaseSettings, HttpSettings, MqttSettings, Settings
from mediabus.schemas.events import JobExecuted
from mediabus.schemas.identity import Actor
from mediabus.wiring.registry import MONITOR, MQTT, PERSIST, SERVICE
from tests.support.aria2_daemon import Aria2
from tests.support.eventually import eventually
from tests.support.library import Library, with_clients
from tests.support.mosquitto import Mosquitto, broker, subscriber
from tests.support.secured import nats_errors, running, secured_nats
from tests.support.torrents import swarm

__all__ = ["broker"]  # the fixture

PROCESSES = (PERSIST, MONITOR, SERVICE, MQTT)


async def test_home_assistant_pauses_with_a_key_that_proves_its_actor(
    tmp_path: Path, database_url: str, broker: Mosquitto, caplog: pytest.LogCaptureFixture
) -> None:
    here = Settings(
        database=DatabaseSettings(url=database_url),
        http=HttpSettings(port=0),
        mqtt=MqttSettings(url=broker.url, speed_interval=0.2),
    )
    with secured_nats(tmp_path) as secured, Aria2.started() as daemon:
        async with (
            swarm(tmp_path) as seeder,
            running(secured, with_clients(here, daemon.settings()), PROCESSES),
            connect(secured.settings("user-42"), name="user", wait=20) as bus,
            open_pool(here.database, size=1) as pool,
            subscriber(broker) as seen,
        ):
            user = Library(bus.nc, pool)
            shared = seeder.share(size=4_000_000, rate=150_000)
            await seen.shows("mediabus/client/aria2/connected", "ON")
            await seen.shows("mediabus/failed_today", "0")
            asked = {"title": "Dune", "torrent": base64.b64encode(shared.content).decode()}
            download = (await user.ask("downloads.initiate", asked))["id"]
            await seen.shows("mediabus/client/aria2/active", "1")
            await eventually(lambda: float(seen.text("mediabus/speed") or "0") > 0, within=40)
            await seen.client.publish("mediabus/client/aria2/set", "pause", qos=1)
            paused = await user.event("download.paused", download)
            query = "SELECT actor_type, actor_id, actor_verified FROM events WHERE id = $1"
            row = await pool.fetchrow(query, paused["id"])
        assert row
        assert tuple(row) == ("user", "homeassistant", True)
        assert "Permissions Violation" not in nats_errors(caplog)


async def test_the_key_of_mqtt_can_neither_publish_nor_cancel(tmp_path: Path) -> None:
    with secured_nats(tmp_path) as secured:
        async with connect(secured.settings("mqtt"), name="mqtt", wait=20) as bus:
            with pytest.raises(PublishFailed):
                await bus.publish(JobExecuted(job_name="scan"), actor=Actor("job", "scan"))
            for subject in ("downloads.cancel", "downloads.initiate", "media.delete"):
                with pytest.raises((NatsError, TimeoutError)):
                    await bus.nc.request(subject, b"{}", timeout=1)
