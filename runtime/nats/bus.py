"""The connection to NATS: open or waiting to be, never closed by itself, never silently deaf."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from typing import Final
from urllib.parse import urlsplit

from nats.aio.client import Client
from nats.errors import Error as NatsError
from nats.js import JetStreamContext
from nats.js.errors import APIError, NoStreamResponseError

from schemas import codec
from schemas.envelope import Envelope
from schemas.events import Event
from schemas.identity import Actor, Resource
from schemas.subjects import EVENTS_STREAM, subject_of
from service.runtime.credentials import credentials
from service.runtime.nats_client import NatsClient, NotAllowed
from service.runtime.settings import NatsSettings, SettingsError

log: Final = logging.getLogger("mediabus.bus")

DEFAULT_URL: Final = "nats://127.0.0.1:4222"
SCHEMES: Final = {"nats", "tls", "ws", "wss"}
DEAF_AFTER: Final = 5.0
"""Seconds in which a server in reach answers a ping. nats-py's read loop ends for good, and
silently, on a message that it cannot parse."""


class PublishFailed(Exception):
    """NATS did not confirm that it stored an event. It may have: publish the same one again."""


class CannotConnect(Exception):
    """No NATS server answered in time."""


class Bus:
    """An open connection to NATS, and the settings that it was made with."""

    def __init__(self, nc: NatsClient, settings: NatsSettings) -> None:
        self.nc = nc
        self.settings = settings
        self.js: JetStreamContext = nc.jetstream(timeout=5)

    @property
    def is_connected(self) -> bool:
        """Whether a server is connected right now."""
        return self.nc.is_connected

    @property
    def connection(self) -> int:
        """The number of the connection: another one after each reconnect."""
        return self.nc.stats["reconnects"]

    async def publish(
        self,
        event: Event,
        *,
        actor: Actor,
        resource: Resource | None = None,
        correlation_id: str | None = None,
        causation_id: str | None = None,
    ) -> Envelope:
        """Publishes an event that happens now and waits until JetStream has stored it.
        Raises InvalidEvent and PublishFailed."""
        envelope = Envelope.of(
            event,
            actor=actor,
            resource=resource,
            correlation_id=correlation_id,
            causation_id=causation_id,
        )
        await self.publish_envelope(envelope)
        return envelope

    async def publish_envelope(self, envelope: Envelope) -> None:
        """Publishes an event as it is; the same one again is safe. Raises as ``publish``."""
        payload = codec.encode(envelope)
        codec.decode(payload)  # whoever reads it would refuse what its types do not promise
        await self.store(subject_of(envelope), payload, str(envelope.id))

    async def store(self, subject: str, payload: bytes, message_id: str) -> None:
        """Publishes bytes into the events stream, once for each message id."""
        headers = {"Nats-Msg-Id": message_id, "Content-Type": codec.CONTENT_TYPE}
        if not self.nc.is_connected:
            raise PublishFailed("NATS is not connected")
        try:
            await self.js.publish(subject, payload, headers=headers)
        except NoStreamResponseError as error:
            raise PublishFailed(
                f"NATS has no stream {EVENTS_STREAM} yet: start mediabus, it makes the stream. "
                "(Or a cluster is electing its leader: wait a moment)"
            ) from error
        except NotAllowed as error:
            raise PublishFailed(f"NATS does not let this user publish to {subject}") from error
        except (NatsError, APIError, TimeoutError) as error:
            raise PublishFailed(_why(self.nc, error)) from error


@contextlib.asynccontextmanager
async def connect(
    settings: NatsSettings, *, name: str, wait: float | None = None
) -> AsyncIterator[Bus]:
    """The connection, made as soon as a server is there; it waits ``wait`` seconds, or for ever.
    Raises CannotConnect and SettingsError."""
    servers = _servers(settings.url or DEFAULT_URL)
    voice = _Voice()
    nc = await _connected(servers, settings, voice, name=name, wait=wait)
    watchdog = asyncio.create_task(_reconnect_when_deaf(nc), name="bus watchdog")
    try:
        yield Bus(nc, settings)
    finally:
        watchdog.cancel()
        voice.leaving = True
        with contextlib.suppress(NatsError, TimeoutError, asyncio.CancelledError):
            await asyncio.wait_for(nc.flush(), timeout=1)
        try:
            await asyncio.wait_for(nc.close(), timeout=1)
        except TimeoutError:
            nc.hang_up()


def _servers(url: str) -> list[str]:
    """The URL of each server. Raises SettingsError, which does not quote what may be a password."""
    servers = url.split(",")
    try:
        parts = [urlsplit(one if "://" in one else f"nats://{one}") for one in servers]
        is_usable = all(
            part.scheme in SCHEMES and part.hostname and (part.port or True) for part in parts
        )
    except ValueError:
        is_usable = False
    if not is_usable:
        raise SettingsError("settings: nats.url is no URL of NATS servers: nats://host:4222")
    return servers


async def _connected(
    servers: list[str], settings: NatsSettings, voice: "_Voice", *, name: str, wait: float | None
) -> NatsClient:
    options = credentials(settings)
    logging.getLogger("asyncio").addFilter(_is_worth_saying)
    nc = NatsClient(needs_tls="tls" in options)
    try:
        async with asyncio.timeout(wait):
            await nc.connect(  # it tries for ever: max_reconnect_attempts is for the first time too
                servers,
                name=name,
                **options,
                allow_reconnect=True,
                max_reconnect_attempts=-1,
                reconnect_time_wait=0.25,  # type: ignore[arg-type] # seconds, and it sleeps them
                connect_timeout=5,
                ping_interval=10,
                max_outstanding_pings=2,
                pending_size=16 * 1024 * 1024,
                error_cb=voice.error,
                disconnected_cb=voice.disconnected,
                reconnected_cb=voice.reconnected,
            )
    except (NatsError, OSError, TimeoutError) as error:
        said = "; ".join(voice.heard) or str(error) or "no answer"  # closing forgets what was heard
        await nc.close()
        raise CannotConnect(_in_vain(", ".join(map(without_password, servers)), said)) from error
    voice.connected()
    return nc


def _in_vain(where: str, said: str) -> str:
    """What to do where no server, or none that knows us, answered."""
    if "authorization violation" in said.lower():
        return (
            f"NATS at {where} does not let us in ({said}): its password is in the data directory "
            "of `mediabus up`, which MEDIABUS_DATA_DIR names; elsewhere set MEDIABUS_NATS_PASSWORD "
            "or MEDIABUS_NATS_NKEY_SEED_FILE"
        )
    return (
        f"no NATS server at {where} ({said}): is mediabus running? "
        "`mediabus up` starts one, MEDIABUS_NATS_URL names another"
    )


def _is_worth_saying(record: logging.LogRecord) -> bool:
    """Not what asyncio has to say of nats-py's streams, whenever a connection with TLS ends."""
    return "eof_received() has no effect" not in record.getMessage()


async def _reconnect_when_deaf(nc: NatsClient) -> None:
    while True:
        await asyncio.sleep(DEAF_AFTER)
        if not nc.is_connected:
            continue
        try:
            await nc.rtt(timeout=int(DEAF_AFTER))  # flush does not wait where the read loop is dead
        except (NatsError, OSError, TimeoutError):
            if nc.is_connected:
                log.error("NATS connection hears nothing any more: reconnecting")
                await nc.force_reconnect()
                nc.hang_up()  # or it would first wait until the server has taken what was written


def _why(nc: Client, error: Exception) -> str:
    if not nc.is_connected:
        return "NATS is not connected"
    return f"NATS did not confirm it: {str(error) or type(error).__name__}"


def without_password(url: str) -> str:
    """The URL of a server as it may be shown."""
    scheme, separator, rest = url.rpartition("://")
    return f"{scheme}{separator}{rest.rpartition('@')[2]}"


class _Voice:
    """What a connection says of itself, until we leave it: nothing twice while it waits."""

    def __init__(self) -> None:
        self.leaving = False
        self.heard: list[str] = []
        self._is_waiting = True

    async def error(self, error: Exception) -> None:
        words = str(error) or type(error).__name__
        if not self._is_waiting:
            log.warning("NATS: %s", words)
        elif words not in self.heard:
            self.heard.append(words)
            log.info("waiting for NATS", extra={"reason": words})

    def connected(self) -> None:
        self._is_waiting = False

    async def disconnected(self) -> None:
        self.heard, self._is_waiting = [], True
        if not self.leaving:
            log.warning("NATS is gone: waiting for it")

    async def reconnected(self) -> None:
        self.connected()
        log.info("NATS is back")
