"""A real MQTT broker on loopback, and a subscriber that keeps what it receives."""

import asyncio
import contextlib
import shutil
import signal
import socket
import ssl
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Final, NamedTuple

import aiomqtt
import pytest

from tests.support.eventually import eventually
from tests.support.ports import free_port
from tests.support.servers import HOST, Server, require_program

USER: Final = "house"
PASSWORD: Final = "open sesame"
SBIN: Final = "/usr/sbin"
"""Where Debian installs the broker, which is not in everybody's PATH."""


class Mosquitto(Server):
    """mosquitto with the lines of configuration that a test adds."""

    def __init__(self, directory: Path, *lines: str) -> None:
        super().__init__(directory, free_port())
        self.url = f"mqtt://{HOST}:{self.port}"
        self._config = directory / "mosquitto.conf"
        listener = [f"listener {self.port} {HOST}", "user root", "max_queued_messages 0"]
        default = [] if lines else ["allow_anonymous true"]
        self._config.write_text("\n".join((*listener, *default, *lines, "")))

    def command(self) -> list[str]:
        program = shutil.which("mosquitto", path=SBIN) or require_program("mosquitto")
        return [program, "-c", str(self._config)]

    def is_ready(self) -> bool:
        with (
            contextlib.suppress(OSError),
            socket.create_connection((HOST, self.port), 1.0),
        ):
            return True
        return False

    def stop(self) -> None:
        """Ask it to exit, and wait. One that misses the signal is killed after 15 s."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._end(signal.SIGTERM)


@contextlib.contextmanager
def mosquitto(directory: Path, *lines: str) -> Iterator[Mosquitto]:
    """Run a broker until the end of the block."""
    directory.mkdir()
    server = Mosquitto(directory, *lines)
    server.start()
    try:
        yield server
    finally:
        server.stop()


def password_file(directory: Path) -> Path:
    """Return a file with one login, as mosquitto reads it."""
    path = directory / "passwords"
    program = shutil.which("mosquitto_passwd") or require_program("mosquitto_passwd")
    subprocess.run([program, "-b", "-c", str(path), USER, PASSWORD], check=True)
    return path


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Mosquitto]:
    """A broker without a login."""
    with mosquitto(tmp_path / "mosquitto") as server:
        yield server


class Received(NamedTuple):
    """A message as it arrived."""

    topic: str
    payload: bytes
    is_retained: bool


class Subscriber:
    """What a client of the broker received on all topics, and its way to publish."""

    def __init__(self, client: aiomqtt.Client) -> None:
        self.client = client
        self.messages: list[Received] = []

    async def receive(self) -> None:
        """Keep messages until cancelled."""
        async for message in self.client.messages:
            payload = message.payload
            assert isinstance(payload, bytes)
            self.messages.append(Received(message.topic.value, payload, message.retain))

    def last(self, topic: str) -> bytes | None:
        """Return the latest payload of a topic."""
        return next((m.payload for m in reversed(self.messages) if m.topic == topic), None)

    def text(self, topic: str) -> str | None:
        payload = self.last(topic)
        return None if payload is None else payload.decode()

    def of(self, topic: str) -> list[bytes]:
        """Return all payloads of a topic."""
        return [message.payload for message in self.messages if message.topic == topic]

    async def shows(self, topic: str, text: str, *, within: float = 30) -> None:
        """Wait until a topic has a value."""
        last: list[str | None] = []

        def is_shown() -> bool:
            last.append(self.text(topic))
            return last[-1] == text

        try:
            await eventually(is_shown, within=within)
        except AssertionError:
            raise AssertionError(f"{topic} is {last[-1]!r}, not {text!r}") from None


@contextlib.asynccontextmanager
async def subscriber(
    broker: Mosquitto,
    user: str | None = None,
    password: str | None = None,
    tls: ssl.SSLContext | None = None,
) -> AsyncIterator[Subscriber]:
    """Subscribe to every topic until the end of the block."""
    async with aiomqtt.Client(
        HOST, broker.port, username=user, password=password, tls_context=tls
    ) as client:
        await client.subscribe("#", qos=1)
        subscribed = Subscriber(client)
        task = asyncio.create_task(subscribed.receive())
        try:
            yield subscribed
        finally:
            task.cancel()
            await asyncio.wait([task])
