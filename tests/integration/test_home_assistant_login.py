"""The connection to the MQTT broker: logins, TLS, rights, and brokers that break the protocol."""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from mediabus.consumers.home_assistant import run, session
from mediabus.runtime.nats.bus import Bus, connect
from mediabus.runtime.nats.streams import ensure_streams
from mediabus.runtime.settings import MqttSettings, NatsSettings, Settings
from mediabus.secure import certificates
from mediabus.wiring.parts import parts_of, working
from mediabus.wiring.registry import MQTT
from tests.support.eventually import eventually
from tests.support.mosquitto import (
    PASSWORD,
    USER,
    Mosquitto,
    broker,
    mosquitto,
    password_file,
    subscriber,
)
from tests.support.servers import HOST

__all__ = ["broker"]  # the fixture


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "PUBLISH_EVERY", 0.05)
    monkeypatch.setattr(session, "ANSWER_WITHIN", 1.0)
    monkeypatch.setattr(run, "FIRST_WAIT", 0.05)
    monkeypatch.setattr(run, "LONGEST_WAIT", 0.2)


@pytest.fixture
async def bus(nats_url: str) -> AsyncIterator[Bus]:
    settings = NatsSettings(url=nats_url)
    async with connect(settings, name="test", wait=10) as connected:
        await ensure_streams(connected, settings)
        yield connected


@contextlib.asynccontextmanager
async def announced(bus: Bus, mqtt: MqttSettings) -> AsyncIterator[None]:
    """Run `mediabus mqtt` alone; it must not end by itself."""
    url = bus.nc.connected_url
    assert url
    settings = Settings(nats=NatsSettings(url=url.geturl()), mqtt=mqtt)
    async with working(settings, 0, parts_of(settings, (MQTT,))) as work:
        yield
        assert not work.done(), work


def login_lines(directory: Path) -> list[str]:
    return ["allow_anonymous false", f"password_file {password_file(directory)}"]


async def test_a_login_works_and_a_wrong_one_is_reported_without_the_password(
    bus: Bus, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    secret = tmp_path / "secret"
    secret.write_text(f"{PASSWORD}\n")
    with mosquitto(tmp_path / "mosquitto", *login_lines(tmp_path)) as broker:
        wrong = MqttSettings(url=broker.url, user=USER, password="nonsense")
        async with announced(bus, wrong):
            refused = "check mqtt.user and mqtt.password"
            await eventually(lambda: any(refused in r.reason for r in waits(caplog)), within=30)
        right = MqttSettings(url=broker.url, user=USER, password_file=str(secret))
        async with subscriber(broker, USER, PASSWORD) as seen, announced(bus, right):
            await seen.shows("mediabus/status", "online")
    assert "nonsense" not in caplog.text
    assert PASSWORD not in caplog.text


class Wait:
    """A log line about the broker."""

    def __init__(self, reason: str) -> None:
        self.reason = reason


def waits(caplog: pytest.LogCaptureFixture) -> list[Wait]:
    return [
        Wait(str(getattr(record, "reason", "")))
        for record in caplog.records
        if record.message.startswith("MQTT broker unavailable")
    ]


# paho-mqtt leaves the socket of a failed handshake to the garbage collector.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
async def test_tls_is_checked_against_the_authority(
    bus: Bus, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    authority, authority_key = certificates.authority()
    certificate, key = certificates.server([HOST], authority, authority_key)
    files = {"ca.pem": authority, "server.pem": certificate, "server.key": key}
    other, _ = certificates.authority()
    for name, text in {**files, "other.pem": other}.items():
        (tmp_path / name).write_text(text)
    lines = [
        "allow_anonymous true",
        f"certfile {tmp_path / 'server.pem'}",
        f"keyfile {tmp_path / 'server.key'}",
    ]
    with mosquitto(tmp_path / "mosquitto", *lines) as broker:
        url = broker.url.replace("mqtt:", "mqtts:")
        async with announced(bus, MqttSettings(url=url, tls_ca=str(tmp_path / "other.pem"))):
            await eventually(lambda: any("certificate" in w.reason for w in waits(caplog)))
        trusted = ssl.create_default_context(cafile=str(tmp_path / "ca.pem"))
        right = MqttSettings(url=url, tls_ca=str(tmp_path / "ca.pem"))
        async with subscriber(broker, tls=trusted) as seen, announced(bus, right):
            await seen.shows("mediabus/status", "online")


CONNACK = b"\x20\x02\x00\x00"
GARBAGE = {
    "no MQTT": b"HTTP/1.1 400 Bad Request\r\n\r\n",
    "closes": b"",
    "a refusal of an unknown code": b"\x20\x02\x00\xff",
    "an endless length": b"\x20\xff\xff\xff\xff\xff\xff",
    "a message of a broken topic": CONNACK + b"\x30\x06\x00\x02\xff\xfe\x00\x00",
    "a message too short for its topic": CONNACK + b"\x30\x03\xff\xff\x00",
    "a message of a reserved kind": CONNACK + b"\xf0\x02\x00\x00",
    "a confirmation without a message": CONNACK + b"\x40\x02\x12\x34",
    "zeros": CONNACK + bytes(100_000),
}


@pytest.mark.parametrize("sent", GARBAGE.values(), ids=GARBAGE.keys())
async def test_a_broker_that_breaks_the_protocol_does_not_end_the_process(
    bus: Bus, broker: Mosquitto, sent: bytes
) -> None:
    """After a broken broker the same port gets a real one, and everything is published."""
    broker.stop()
    connections: list[asyncio.StreamWriter] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections.append(writer)
        with contextlib.suppress(OSError):
            await reader.read(1000)
            writer.write(sent)
            await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, HOST, broker.port)
    async with announced(bus, MqttSettings(url=broker.url)):
        async with server:
            await eventually(lambda: len(connections) >= 2, within=30)
            server.close()
            await server.wait_closed()
        for writer in connections:
            writer.transport.abort()
        broker.start()
        async with subscriber(broker) as seen:
            await seen.shows("mediabus/status", "online")
