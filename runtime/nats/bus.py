"""The connection to NATS. It reconnects by itself, also when the server stops responding."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Mapping
from typing import Any, Final, Unpack
from urllib.parse import quote

import msgspec
from nats.aio.client import Client
from nats.errors import Error as NatsError
from nats.js import JetStreamContext
from nats.js.errors import APIError, NoStreamResponseError

from mediabus.runtime.error_text import error_text
from mediabus.runtime.nats.account import (
    KEY_ACCOUNTS,
    STREAMS_ACCOUNT,
    account_of,
    api_prefix,
    is_secured,
)
from mediabus.runtime.nats.client import NatsClient, NotAllowed
from mediabus.runtime.nats.connection_log import ConnectionLog
from mediabus.runtime.nats.credentials import credentials
from mediabus.runtime.nats.logins import Servers, servers_of
from mediabus.runtime.nats.once import publish_once
from mediabus.runtime.settings import NatsSettings
from mediabus.schemas import codec
from mediabus.schemas.envelope import Envelope, Links
from mediabus.schemas.events import Event
from mediabus.schemas.identity import Actor
from mediabus.schemas.subjects import EVENTS_STREAM, subject_of

log: Final = logging.getLogger("mediabus.bus")

DEFAULT_URL: Final = "nats://127.0.0.1:4222"
PING_TIMEOUT: Final = 5.0
"""Seconds between two pings of the watchdog, and for the reply to one. A watchdog is needed because
nats-py's read loop ends silently on a message that it cannot parse."""


STRUCTURED: Final[Mapping[str, str]] = {"Content-Type": codec.CONTENT_TYPE}
"""Headers of an event in structured JSON."""


class PublishFailed(Exception):
    """NATS did not confirm that it stored an event.

    It may have stored it. Publishing the same envelope again is safe: it is stored once.

    >>> async with mediabus.connect(actor=mediabus.Actor("job", "scan")) as bus:
    ...     try:
    ...         await bus.publish(mediabus.events.JobExecuted(job_name="scan"))
    ...     except mediabus.PublishFailed as error:
    ...         print("try again later:", error)
    """


class CannotConnect(Exception):
    """No NATS server answered in time, or none accepted the credentials.

    >>> try:
    ...     async with mediabus.connect("nats://127.0.0.1:1", wait=0.2) as bus:
    ...         pass
    ... except mediabus.CannotConnect as error:
    ...     print(error)
    """


class Bus:
    """An open connection to NATS."""

    def __init__(self, nc: NatsClient) -> None:
        self.nc = nc
        self.installation: str | None = None
        """The id of the installation, read from its database. None if unknown."""
        self.holds_streams = nc.account == STREAMS_ACCOUNT
        self.trusts_actors = is_secured(nc.account)
        """Whether only mediabus may write to the events stream, so that the actor in an event is
        proven. False if publishers share a password."""
        self.is_guest = nc.account.startswith(KEY_ACCOUNTS)
        """Whether the connection's key belongs to an account without streams."""
        self.api = api_prefix(nc.account)
        self.js: JetStreamContext = nc.jetstream(timeout=5, prefix=self.api)

    @property
    def is_connected(self) -> bool:
        """Whether the connection is up now."""
        return self.nc.is_connected

    @property
    def connection(self) -> int:
        """The number of reconnects so far. It changes with each reconnect."""
        return self.nc.stats["reconnects"]

    async def publish(
        self,
        event: Event,
        *,
        actor: Actor,
        **links: Unpack[Links],
    ) -> Envelope:
        """Publish an event that happens now and wait until JetStream has stored it.

        Returns the envelope as published.

        Raises:
            InvalidEvent: if the event does not conform to its schema.
            PublishFailed: if NATS did not confirm the event.
        """
        envelope = Envelope.of(event, actor=actor, **links)
        if self.is_guest:  # a source that begins with "mediabus" is reserved for mediabus
            program = quote(self.nc.options.get("name") or "program", safe="")
            envelope = msgspec.structs.replace(envelope, source=program)
        await self.publish_envelope(envelope)
        return envelope

    async def publish_envelope(self, envelope: Envelope) -> None:
        """Publish a complete event. Publishing it again is safe.

        Raises the same errors as ``publish``.
        """
        payload = codec.encode(envelope)
        codec.decode(payload)  # fail here rather than in every consumer
        await self.store(subject_of(envelope), payload, str(envelope.id))

    async def store(
        self,
        subject: str,
        payload: bytes,
        message_id: str,
        headers: Mapping[str, str] = STRUCTURED,
    ) -> bool:
        """Publish bytes to the events stream.

        Returns whether the stream already held the same message under this id.

        Raises:
            PublishFailed: if NATS did not confirm the message.
        """
        headers = {**headers, "Nats-Msg-Id": message_id}
        if not self.nc.is_connected:
            raise PublishFailed("NATS is not connected")
        try:
            return await publish_once(self.js, subject, payload, headers)
        except NoStreamResponseError as error:
            raise PublishFailed(
                f"NATS has no stream {EVENTS_STREAM} yet: start mediabus, which creates it. "
                "If NATS is a cluster that is electing a leader, try again in a moment"
            ) from error
        except NotAllowed as error:
            raise PublishFailed(f"NATS does not let this user publish to {subject}") from error
        except (NatsError, APIError, TimeoutError) as error:
            raise PublishFailed(_reason(self.nc, error)) from error


@contextlib.asynccontextmanager
async def connect(
    settings: NatsSettings, *, name: str, wait: float | None = None
) -> AsyncIterator[Bus]:
    """Connect to NATS as soon as a server is reachable, and close the connection at the end.

    ``wait`` limits the wait, in seconds; without it, wait until cancelled.

    Raises:
        CannotConnect: if no server accepted the connection within ``wait``.
        SettingsError: if the settings cannot be used.
    """
    servers = servers_of(settings.url or DEFAULT_URL, settings)
    connection_log = ConnectionLog()
    nc = await _connected(servers, settings, connection_log, name=name, wait=wait)
    watchdog = asyncio.create_task(_reconnect_when_unresponsive(nc), name="bus watchdog")
    try:
        yield Bus(nc)
    finally:
        watchdog.cancel()
        connection_log.is_closing = True
        await _close(nc)


async def _close(nc: NatsClient) -> None:
    """Close the connection. Raises nothing, so that later exit steps run in any case."""
    with contextlib.suppress(NatsError, OSError, RuntimeError, asyncio.CancelledError):
        await asyncio.wait_for(nc.flush(), timeout=1)
    try:
        await asyncio.wait_for(nc.close(), timeout=1)
    except (NatsError, OSError, RuntimeError):  # uvloop raises RuntimeError if it is closed already
        nc.hang_up()


STAY_CONNECTED: Final[dict[str, Any]] = {
    "allow_reconnect": True,
    "max_reconnect_attempts": -1,  # no limit, for the first connection, too
    "reconnect_time_wait": 0.25,
    "connect_timeout": 5,
    "ping_interval": 10,
    "max_outstanding_pings": 2,
    "pending_size": 16 * 1024 * 1024,
}
"""Options of nats-py: times in seconds, ``pending_size`` in bytes."""


async def _connected(
    servers: Servers,
    settings: NatsSettings,
    connection_log: ConnectionLog,
    *,
    name: str,
    wait: float | None,
) -> NatsClient:
    options = servers.options | credentials(settings)
    logging.getLogger("asyncio").addFilter(_is_relevant)
    nc = NatsClient(
        needs_tls=servers.needs_tls or "tls" in options,
        public_nkey=options.pop("public_nkey", None),
    )
    try:
        async with asyncio.timeout(wait):
            await nc.connect(
                servers.urls,
                name=name,
                **options,
                **STAY_CONNECTED,
                error_cb=connection_log.error,
                disconnected_cb=connection_log.disconnected,
                reconnected_cb=connection_log.reconnected,
                lame_duck_mode_cb=connection_log.lame_duck,
            )
            if settings.nkey_seed_file:
                nc.account = await account_of(nc)
    except (NatsError, OSError, TimeoutError) as error:
        reason = "; ".join(connection_log.reasons) or str(error) or "no answer"  # read before close
        await nc.close()
        raise CannotConnect(_connection_advice(", ".join(servers.urls), reason)) from error
    connection_log.connected()
    return nc


def _connection_advice(urls: str, reason: str) -> str:
    """Return the message of CannotConnect: what failed, and what to do."""
    if "nats.credentials" in reason or "nats.nkey_seed_file" in reason:
        return f"cannot log in to NATS at {urls}: {reason}"
    if "authorization violation" in reason.lower():
        return (
            f"NATS at {urls} refused the login: {reason}. For the server of `mediabus up`, set "
            "MEDIABUS_DATA_DIR to its data directory, which holds the password. For another "
            "server, set MEDIABUS_NATS_PASSWORD or MEDIABUS_NATS_NKEY_SEED_FILE"
        )
    return (
        f"cannot reach NATS at {urls}: {reason}. Start it with `mediabus up`, or set "
        "MEDIABUS_NATS_URL to the URL of another server"
    )


def _is_relevant(record: logging.LogRecord) -> bool:
    """Filter out a warning that asyncio logs whenever a TLS connection of nats-py ends."""
    return "eof_received() has no effect" not in record.getMessage()


async def _reconnect_when_unresponsive(nc: NatsClient) -> None:
    while True:
        await asyncio.sleep(PING_TIMEOUT)
        if not nc.is_connected:
            continue
        try:
            await nc.rtt(timeout=int(PING_TIMEOUT))  # flush does not detect a dead read loop
        except (NatsError, OSError, TimeoutError):
            if nc.is_connected:
                log.error("NATS connection unresponsive, reconnecting")
                await nc.force_reconnect()
                nc.hang_up()  # otherwise nats-py first waits for pending writes


def _reason(nc: Client, error: Exception) -> str:
    if not nc.is_connected:
        return "NATS is not connected"
    return f"NATS did not confirm the event: {error_text(error)}"
