"""Home Assistant through a real MQTT broker: discovery, states, events and commands."""

import base64
import contextlib
import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from mediabus.consumers.home_assistant import board, run, session
from mediabus.consumers.home_assistant.discovery import CLIENT_TOPICS
from mediabus.runtime.nats.bus import Bus, connect
from mediabus.runtime.nats.streams import ensure_streams
from mediabus.runtime.settings import MqttSettings, NatsSettings, Settings
from mediabus.schemas.events import DownloadFailed, MediaItemAdded
from mediabus.schemas.identity import Actor, Resource, uuid7
from mediabus.schemas.status import ClientName, ClientStatus, DownloadStatus
from mediabus.wiring.parts import parts_of, working
from mediabus.wiring.registry import MONITOR, MQTT, PERSIST, SERVICE
from tests.support import daemons, torrents
from tests.support.apps import Sonarr
from tests.support.aria2_daemon import Aria2
from tests.support.commands import start
from tests.support.eventually import eventually
from tests.support.home_assistant import check_discovery, check_text, states_of
from tests.support.library import library, with_clients
from tests.support.mosquitto import Mosquitto, Subscriber, broker, subscriber
from tests.support.servers import NatsServer

__all__ = ["broker"]  # the fixture

HUB = "homeassistant/device/mediabus/config"
CLIENT = "homeassistant/device/mediabus_aria2/config"
BIDI = "\u202e\u2066"
HOSTILE = f"+/#{BIDI}\x1b[31m\r\n" + "x" * 10_000
NUL = f"\0{HOSTILE}"
"""Events cannot hold a NUL, but a program may write one into the status bucket."""


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "PUBLISH_EVERY", 0.05)
    monkeypatch.setattr(run, "FIRST_WAIT", 0.05)
    monkeypatch.setattr(run, "LONGEST_WAIT", 0.2)


def with_broker(settings: Settings, broker: Mosquitto, **more: Any) -> Settings:
    table = {"url": broker.url, "speed_interval": 0.2, **more}
    return msgspec.structs.replace(settings, mqtt=MqttSettings(**table))


@pytest.fixture
async def bus(nats_url: str) -> AsyncIterator[Bus]:
    settings = NatsSettings(url=nats_url)
    async with connect(settings, name="test", wait=10) as connected:
        await ensure_streams(connected, settings)
        yield connected


@contextlib.asynccontextmanager
async def announced(settings: Settings) -> AsyncIterator[None]:
    """Run `mediabus mqtt` alone; it must not end by itself."""
    async with working(settings, 0, parts_of(settings, (MQTT,))) as work:
        yield
        assert not work.done(), work


async def put(bus: Bus, *statuses: ClientStatus | DownloadStatus) -> None:
    """Write into the status bucket as the monitor does."""
    for status in statuses:
        key = status.client
        if isinstance(status, DownloadStatus):
            key = ClientName(f"{status.client}.{status.item}")
        await bus.js.publish(f"$KV.download_status.{key}", msgspec.json.encode(status))


def client(name: str = "aria2", *, reachable: bool = True, **more: Any) -> ClientStatus:
    facts = {"client": name, "kind": "aria2", "reachable": reachable, "version": "1.36.0"}
    return msgspec.convert({**facts, "since": "2026-01-01T00:00:00Z", **more}, ClientStatus)


def download(item: str, phase: str, client_name: str = "aria2", **more: Any) -> DownloadStatus:
    facts = {"client": client_name, "item": item, "title": item, "phase": phase, **more}
    return msgspec.convert(facts, DownloadStatus)


async def discovered(seen: Subscriber, topic: str) -> dict[str, Any]:
    """Wait for the description of a device, and check it."""
    payload = await eventually(lambda: seen.last(topic), within=30)
    return check_discovery(topic, payload)


# --- discovery -------------------------------------------------------------------------------


async def test_discovery_follows_the_rules_and_every_state_has_a_value(
    bus: Bus, nats_url: str, broker: Mosquitto
) -> None:
    settings = with_broker(Settings(nats=NatsSettings(url=nats_url)), broker)
    await put(bus, client(), client("other", reachable=False, reason="tls"))
    async with subscriber(broker) as seen, announced(settings):
        hub = await discovered(seen, HUB)
        described = [await discovered(seen, CLIENT)]
        described.append(await discovered(seen, "homeassistant/device/mediabus_other/config"))
        await seen.shows("mediabus/status", "online")
    assert {entity["platform"] for entity in hub["components"].values()} == {
        "sensor",
        "binary_sensor",
        "event",
    }
    assert all(device["device"]["via_device"] == "mediabus" for device in described)
    unique = [e["unique_id"] for d in (hub, *described) for e in d["components"].values()]
    assert len(set(unique)) == len(unique)
    topics = {topic for device in described for topic in states_of(device).values()}
    assert all(seen.last(topic) is not None for topic in topics)
    unknown_without_history = {"mediabus/failed_today", "mediabus/last_event", "mediabus/event"}
    known = set(states_of(hub).values()) - unknown_without_history
    assert all(seen.last(topic) is not None for topic in known)


async def test_everything_is_published_again_when_home_assistant_starts(
    bus: Bus, nats_url: str, broker: Mosquitto
) -> None:
    settings = with_broker(Settings(nats=NatsSettings(url=nats_url)), broker)
    await put(bus, client())
    async with subscriber(broker) as seen, announced(settings):
        await seen.shows("mediabus/status", "online")
        assert len(seen.of(CLIENT)) == len(seen.of("mediabus/active")) == 1
        await seen.client.publish("homeassistant/status", "online")
        await eventually(lambda: len(seen.of("mediabus/active")) == 2, within=30)
        await eventually(lambda: len(seen.of(HUB)) == len(seen.of(CLIENT)) == 2, within=30)


async def test_a_client_that_is_gone_is_deleted_now_and_after_a_restart(
    bus: Bus, nats_url: str, broker: Mosquitto
) -> None:
    settings = with_broker(Settings(nats=NatsSettings(url=nats_url)), broker)
    await put(bus, client(), client("first"), client("second"))
    gone = "homeassistant/device/mediabus_{}/config"
    async with subscriber(broker) as seen:
        async with announced(settings):
            await seen.shows("mediabus/status", "online")
            await bus.js.publish("$KV.download_status.first", b"", headers={"KV-Operation": "DEL"})
            await seen.shows(gone.format("first"), "")
            await seen.shows("mediabus/client/first/connected", "")
            deleted = [m.topic for m in seen.messages if "first" in m.topic and not m.payload]
            assert len(deleted) == len(CLIENT_TOPICS) + 1  # the discovery
            assert deleted[-1] == "mediabus/client/first/connected"
        await bus.js.purge_stream("KV_download_status", subject="$KV.download_status.second")
        async with announced(settings):
            await seen.shows(gone.format("second"), "")
            for key in CLIENT_TOPICS:
                await seen.shows(f"mediabus/client/second/{key}", "")
            await seen.shows("mediabus/status", "online")
    async with subscriber(broker) as later:
        await later.shows("mediabus/client/aria2/connected", "ON")
        assert not [m for m in later.messages if "first" in m.topic or "second" in m.topic]


async def test_a_client_whose_statuses_are_purged_is_deleted(
    bus: Bus, nats_url: str, broker: Mosquitto, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The monitor purges the statuses of clients that were removed from the settings.

    A purge leaves no message behind that a reader could see.
    """
    monkeypatch.setattr(run, "COUNT_EVERY", 0.1)
    settings = with_broker(Settings(nats=NatsSettings(url=nats_url)), broker)
    await put(bus, client("old"), download("a", "paused", client_name="old"))
    async with subscriber(broker) as seen, announced(settings):
        await seen.shows("mediabus/paused", "1")
        await bus.js.purge_stream("KV_download_status", subject="$KV.download_status.>")
        await seen.shows("homeassistant/device/mediabus_old/config", "")
        await seen.shows("mediabus/paused", "0")


# --- states ----------------------------------------------------------------------------------


async def test_states_follow_the_bucket(bus: Bus, nats_url: str, broker: Mosquitto) -> None:
    settings = with_broker(Settings(nats=NatsSettings(url=nats_url)), broker)
    fast = download("a", "downloading", download_rate=12_345_678)
    await put(bus, client(), fast, download("b", "queued"), download("c", "paused"))
    async with subscriber(broker) as seen, announced(settings):
        for key, text in {"active": "2", "paused": "1", "speed": "12.35"}.items():
            await seen.shows(f"mediabus/{key}", text)
            await seen.shows(f"mediabus/client/aria2/{key}", text)
        await seen.shows("mediabus/attention", "OFF")
        await put(bus, download("a", "downloading", idle_for=3600), download("b", "failed"))
        await seen.shows("mediabus/stalled", "1")
        await seen.shows("mediabus/attention", "ON")
        await seen.shows("mediabus/speed", "0.00")
        await put(bus, client(reachable=False, reason="connection", message="refused"))
        await seen.shows("mediabus/client/aria2/connected", "OFF")
        attributes = "mediabus/attention/attributes"
        await eventually(lambda: json.loads(seen.last(attributes) or b"{}").get("count") == 3)
        reasons = json.loads(seen.last(attributes) or b"")["reasons"]
    assert reasons == [
        "aria2 is unreachable: no connection",
        "a has stalled in aria2",
        "b failed in aria2",
    ]


async def test_speeds_are_throttled_and_other_states_are_not(
    bus: Bus, nats_url: str, broker: Mosquitto
) -> None:
    """Speeds change with every poll. Home Assistant would store each value."""
    settings = with_broker(Settings(nats=NatsSettings(url=nats_url)), broker, speed_interval=3600)
    await put(bus, client(), download("a", "downloading", download_rate=1_000_000))
    async with subscriber(broker) as seen, announced(settings):
        await seen.shows("mediabus/status", "online")
        for rate in range(2, 12):
            await put(bus, download("a", "downloading", download_rate=rate * 1_000_000))
        await put(bus, download("a", "paused"))
        await seen.shows("mediabus/paused", "1")
        assert seen.of("mediabus/speed") == [b"1.00"]


async def test_hostile_names_and_titles_stay_within_topics_and_limits(
    bus: Bus, nats_url: str, broker: Mosquitto
) -> None:
    settings = with_broker(Settings(nats=NatsSettings(url=nats_url)), broker)
    names = ["#", "a+b", "x/y", "é", "n" * 200]
    await put(bus, *(client(name, kind=NUL, message=NUL) for name in names))
    await put(bus, client("bad", reachable=False, message=NUL, warning=NUL))
    await put(bus, download("t", "failed", client_name="bad", title=NUL))
    async with subscriber(broker) as seen, announced(settings):
        await seen.shows("mediabus/status", "online")
        actor, resource = Actor("user", HOSTILE[:200]), Resource("media_item", HOSTILE[:200])
        added = MediaItemAdded(media_type="movie", monitored=True, title=HOSTILE[:2000])
        await bus.publish(added, actor=actor, resource=resource)
        await eventually(lambda: seen.last("mediabus/last_event"), within=30)
        await eventually(lambda: seen.last("mediabus/event"), within=30)
        messages = list(seen.messages)
    devices = [m for m in messages if m.topic.endswith("/config")]
    assert len(devices) == len(names) + 2
    for device in devices:
        check_discovery(device.topic, device.payload)
    for message in messages:
        assert len(message.payload) < 16_384, message.topic
        if message.topic.endswith(("attributes", "/event")):
            check_texts(json.loads(message.payload))
        elif not message.topic.endswith("config"):
            check_text(message.payload.decode())


def check_texts(value: object) -> None:
    """Check every text inside."""
    match value:
        case dict():
            for inner in value.values():
                check_texts(inner)
        case list():
            for inner in value:
                check_texts(inner)
        case str() if value:
            check_text(value)


# --- events ----------------------------------------------------------------------------------


async def test_an_event_triggers_the_event_entity_once_and_is_not_retained(
    bus: Bus, nats_url: str, broker: Mosquitto
) -> None:
    settings = with_broker(Settings(nats=NatsSettings(url=nats_url)), broker)
    async with subscriber(broker) as seen:
        async with announced(settings):
            hub = await discovered(seen, HUB)
            await seen.shows("mediabus/status", "online")
            added = MediaItemAdded(media_type="movie", monitored=True, title="Dune", year=2021)
            envelope = await bus.publish(added, actor=Actor("user", "anna"))
            await eventually(lambda: seen.last("mediabus/event"), within=30)
            await seen.shows("mediabus/last_event", "anna added Dune (2021) to the library")
        [payload] = seen.of("mediabus/event")
    async with subscriber(broker) as later:
        await later.shows("mediabus/last_event", "anna added Dune (2021) to the library")
        assert not later.of("mediabus/event")
    event = json.loads(payload)
    assert event["event_type"] in hub["components"]["event"]["event_types"]
    assert event["event_type"] == event["type"] == "media_item.added"
    assert (event["id"], event["actor"]) == (str(envelope.id), "user:anna")
    assert (event["data"]["title"], event["data"]["year"]) == ("Dune", 2021)


async def test_events_of_an_imported_history_trigger_nothing(
    bus: Bus, nats_url: str, broker: Mosquitto
) -> None:
    settings = with_broker(Settings(nats=NatsSettings(url=nats_url)), broker)
    async with subscriber(broker) as seen, announced(settings):
        await seen.shows("mediabus/status", "online")
        added = MediaItemAdded(media_type="movie", monitored=True, title="Old")
        old = await bus.publish(added, actor=Actor("user", "anna"))
        await seen.shows("mediabus/last_event", "anna added Old to the library")
        imported = msgspec.structs.replace(
            old, id=old.id.__class__(int=old.id.int + 1), extensions={"imported": True}
        )
        await bus.publish_envelope(imported)
        await bus.publish(
            MediaItemAdded(media_type="movie", monitored=True, title="New"),
            actor=Actor("user", "anna"),
        )
        await seen.shows("mediabus/last_event", "anna added New to the library")
        await eventually(lambda: len(seen.of("mediabus/event")) == 2)


# --- applications -------------------------------------------------------------------------------


async def test_an_application_is_a_device_until_it_is_removed_from_the_settings(
    settings: Settings, broker: Mosquitto, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "RESTART_AFTER", 0.2)
    monkeypatch.setattr(run, "COUNT_EVERY", 0.5)
    here = with_broker(with_clients(settings), broker)
    config = "homeassistant/device/mediabus-app_tv/config"
    async with subscriber(broker) as seen:
        async with Sonarr.running() as sonarr:
            app = {"name": "tv", "kind": "sonarr", "url": sonarr.url, "api_key": sonarr.api_key}
            reading = msgspec.structs.replace(here, apps=[{**app, "poll": 1}])
            async with library(reading, (SERVICE, MONITOR, PERSIST, MQTT)):
                await seen.shows("mediabus/app/tv/connected", "ON")
                described = await discovered(seen, config)
                await sonarr.stop()
                await seen.shows("mediabus/app/tv/connected", "OFF")
                await seen.shows("mediabus/attention", "ON")
        async with library(here, (SERVICE, MQTT)):
            await seen.shows(config, "")
            await seen.shows("mediabus/app/tv/connected", "")
            await seen.shows("mediabus/attention", "OFF")
    assert described["device"]["model"] == "sonarr"


# --- a real client ---------------------------------------------------------------------------


@pytest.fixture
def daemon() -> Iterator[daemons.Daemon]:
    with Aria2.started() as running:
        yield running


@pytest.fixture
async def swarm(tmp_path: Path) -> AsyncIterator[torrents.Swarm]:
    async with torrents.swarm(tmp_path) as running:
        yield running


async def test_a_real_download_is_followed_paused_and_resumed_from_home_assistant(
    settings: Settings, daemon: daemons.Daemon, swarm: torrents.Swarm, broker: Mosquitto
) -> None:
    shared = swarm.share(size=4_000_000, rate=150_000)
    here = with_broker(with_clients(settings, daemon.settings()), broker)
    asked = {"title": "Dune", "torrent": base64.b64encode(shared.content).decode()}
    async with (
        subscriber(broker) as seen,
        library(here, (SERVICE, MONITOR, PERSIST, MQTT)) as user,
    ):
        await seen.shows("mediabus/status", "online")
        button = (await discovered(seen, CLIENT))["components"]["pause_all"]
        initiated = await user.ask("downloads.initiate", asked)
        await seen.shows("mediabus/active", "1")
        await eventually(lambda: float(seen.text("mediabus/speed") or "0") > 0, within=40)
        await seen.client.publish(button["command_topic"], button["payload_press"], qos=1)
        paused = await user.event("download.paused", initiated["id"])
        await seen.shows("mediabus/client/aria2/paused", "1")
        await seen.client.publish(button["command_topic"], "resume", qos=1)
        resumed = await user.event("download.resumed", initiated["id"])
        swarm.limit(shared, 0)
        await user.event("download.completed", initiated["id"], within=60)
        await seen.shows("mediabus/client/aria2/active", "0")
        await eventually(lambda: "Dune is complete" in (seen.text("mediabus/last_event") or ""))
    assert (paused["actor_type"], paused["actor_id"]) == ("user", "homeassistant")
    assert (resumed["actor_type"], resumed["actor_id"]) == ("user", "homeassistant")
    types = [json.loads(payload)["event_type"] for payload in seen.of("mediabus/event")]
    assert types == [f"download.{step}" for step in ("initiated", "paused", "resumed", "completed")]


async def test_a_failure_is_counted_for_today(settings: Settings, broker: Mosquitto) -> None:
    here = with_broker(settings, broker)
    failed = DownloadFailed(
        download_id=uuid7(),
        title="Dune",
        client="aria2",
        reason="disk_full",
        error_message="disk full",
    )
    async with (
        subscriber(broker) as seen,
        library(here, (PERSIST, MQTT)),
        connect(here.nats, name="test", wait=10) as bus,
    ):
        await seen.shows("mediabus/failed_today", "0")
        await bus.publish(failed, actor=Actor("system", "test"))
        await seen.shows("mediabus/failed_today", "1")


# --- commands --------------------------------------------------------------------------------


async def test_unknown_and_retained_commands_are_ignored(
    bus: Bus, nats_url: str, broker: Mosquitto, caplog: pytest.LogCaptureFixture
) -> None:
    settings = with_broker(Settings(nats=NatsSettings(url=nats_url)), broker)
    await put(bus, client())
    async with subscriber(broker) as seen:
        await seen.client.publish("mediabus/client/aria2/set", "pause", qos=1, retain=True)
        async with announced(settings):
            await seen.shows("mediabus/status", "online")
            await eventually(lambda: "retained command ignored" in caplog.text, within=30)
            assert "command failed" not in caplog.text
            for topic, payload in (("aria2", HOSTILE), ("nobody", "pause"), ("a b", "resume")):
                await seen.client.publish(f"mediabus/client/{topic}/set", payload, qos=1)
            await eventually(lambda: caplog.text.count("unknown command ignored") == 2, within=30)
            await put(bus, download("a", "paused"))
            await seen.shows("mediabus/paused", "1")


async def test_a_command_without_a_service_fails_and_the_next_one_runs(
    bus: Bus, nats_url: str, broker: Mosquitto, caplog: pytest.LogCaptureFixture
) -> None:
    settings = with_broker(Settings(nats=NatsSettings(url=nats_url)), broker)
    await put(bus, client())
    async with subscriber(broker) as seen, announced(settings):
        await seen.shows("mediabus/status", "online")
        await seen.client.publish("mediabus/client/aria2/set", "pause", qos=1)
        await eventually(lambda: caplog.text.count("command failed") == 1, within=30)
        await seen.client.publish("mediabus/client/aria2/set", "resume", qos=1)
        await eventually(lambda: caplog.text.count("command failed") == 2, within=30)


# --- outages ---------------------------------------------------------------------------------


async def test_states_and_recent_events_survive_an_outage_of_the_broker(
    bus: Bus, nats_url: str, broker: Mosquitto
) -> None:
    settings = with_broker(Settings(nats=NatsSettings(url=nats_url)), broker)
    await put(bus, client(), download("a", "downloading"))
    async with announced(settings):
        async with subscriber(broker) as seen:
            await seen.shows("mediabus/active", "1")
            await seen.shows("mediabus/status", "online")
        broker.kill()
        await put(bus, download("a", "paused"))
        added = MediaItemAdded(media_type="movie", monitored=True, title="Dune")
        await bus.publish(added, actor=Actor("user", "anna"))
        broker.start()
        async with subscriber(broker) as seen:
            await seen.shows("mediabus/active", "0")
            await seen.shows("mediabus/paused", "1")
            await seen.shows("mediabus/last_event", "anna added Dune to the library")
            await eventually(lambda: seen.last("mediabus/event"), within=30)
            await seen.shows("mediabus/status", "online")
            await discovered(seen, CLIENT)


async def test_old_events_are_dropped_after_a_long_outage(
    bus: Bus,
    nats_url: str,
    broker: Mosquitto,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """An automation must not switch on the lights for what happened hours ago."""
    monkeypatch.setattr(board, "EVENT_AGE", 0.0)
    broker.stop()
    settings = with_broker(Settings(nats=NatsSettings(url=nats_url)), broker)
    async with announced(settings):
        await eventually(lambda: "MQTT broker unavailable" in caplog.text, within=30)
        added = MediaItemAdded(media_type="movie", monitored=True, title="Dune")
        await bus.publish(added, actor=Actor("user", "anna"))
        broker.start()
        async with subscriber(broker) as seen:
            await seen.shows("mediabus/last_event", "anna added Dune to the library")
            await seen.shows("mediabus/status", "online")
            assert not seen.of("mediabus/event")


async def test_entities_are_unavailable_after_a_crash_and_after_a_normal_end(
    bus: Bus, nats_url: str, broker: Mosquitto
) -> None:
    settings = with_broker(Settings(nats=NatsSettings(url=nats_url)), broker)
    assert bus.is_connected
    async with subscriber(broker) as seen:
        async with announced(settings):
            await seen.shows("mediabus/status", "online")
        await seen.shows("mediabus/status", "offline")
        variables = {
            "MEDIABUS_NATS_URL": nats_url,
            "MEDIABUS_MQTT_URL": broker.url,
            "MEDIABUS_HTTP_PORT": "0",
        }
        process = await start("mqtt", **variables)
        try:
            await seen.shows("mediabus/status", "online")
        finally:
            process.kill()
            await process.communicate()
        await seen.shows("mediabus/status", "offline")


async def test_a_status_of_another_connection_is_corrected(
    bus: Bus, nats_url: str, broker: Mosquitto
) -> None:
    """The last will of a half-open connection arrives long after its successor is online."""
    settings = with_broker(Settings(nats=NatsSettings(url=nats_url)), broker)
    assert bus.is_connected
    async with subscriber(broker) as seen, announced(settings):
        await seen.shows("mediabus/status", "online")
        await seen.client.publish("mediabus/status", "offline", qos=1, retain=True)
        await eventually(lambda: seen.of("mediabus/status")[-2:] == [b"offline", b"online"])


async def test_entities_are_unavailable_while_nats_is(
    bus: Bus, nats: NatsServer, broker: Mosquitto
) -> None:
    settings = with_broker(Settings(nats=NatsSettings(url=nats.url)), broker)
    await put(bus, client())
    async with subscriber(broker) as seen, announced(settings):
        await seen.shows("mediabus/status", "online")
        nats.stop()
        await seen.shows("mediabus/status", "offline")
        nats.start()
        await seen.shows("mediabus/status", "online")
        await eventually(lambda: bus.is_connected, within=30)
        await put(bus, download("a", "paused"))
        await seen.shows("mediabus/paused", "1")
