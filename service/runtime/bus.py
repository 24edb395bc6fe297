"""The connection to NATS: open or waiting to be, never closed by itself, never silently deaf."""

import asyncio
import contextlib
import logging
import re
from collections.abc import AsyncIterator
from typing import Final

from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.errors import Error as NatsError
from nats.js import JetStreamContext
from nats.js.errors import APIError, NoStreamResponseError
from nats.protocol import parser

from schemas import codec
from schemas.envelope import Envelope
from schemas.events import Event
from schemas.identity import Actor, Resource
from schemas.subjects import EVENTS_STREAM, subject_of
from service.runtime.settings import NatsSettings

log: Final = logging.getLogger("mediabus.bus")

DEFAULT_URL: Final = "nats://127.0.0.1:4222"
DEAF_AFTER: Final = 5.0
"""Seconds in which a server in reach answers a ping. nats-py's read loop ends for good, and
silently, on a message that it cannot parse."""


class PublishFailed(Exception):
    """NATS did not confirm that it stored an event. It may have: publish the same one again."""


class CannotConnect(Exception):
    """No NATS server answered in time."""


class Bus:
    """An open connection to NATS, and the settings that it was made with."""

    def __init__(self, nc: Client, settings: NatsSettings) -> None:
        self.nc = nc
        self.settings = settings
        self.js: JetStreamContext = nc.jetstream(timeout=5)

    @property
    def is_connected(self) -> bool:
        """Whether a server is connected right now."""
        return self.nc.is_connected

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
        except (NatsError, APIError, TimeoutError) as error:
            raise PublishFailed(_why(self.nc, error)) from error


@contextlib.asynccontextmanager
async def connect(
    settings: NatsSettings, *, name: str, wait: float | None = None
) -> AsyncIterator[Bus]:
    """The connection, made as soon as a server is there; it waits ``wait`` seconds, or for ever.
    Raises CannotConnect."""
    servers = (settings.url or DEFAULT_URL).split(",")
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


async def _connected(
    servers: list[str], settings: NatsSettings, voice: "_Voice", *, name: str, wait: float | None
) -> "_Client":
    nc = _Client()
    try:
        async with asyncio.timeout(wait):
            await nc.connect(  # it tries for ever: max_reconnect_attempts is for the first time too
                servers,
                name=name,
                user=settings.user,
                password=settings.password,
                user_credentials=settings.credentials,
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
        await nc.close()
        raise CannotConnect(
            f"no NATS server at {', '.join(map(_without_password, servers))} "
            f"({'; '.join(voice.heard) or error}): is mediabus running? `mediabus up` starts "
            "one, MEDIABUS_NATS_URL names another"
        ) from error
    voice.connected()
    return nc


# What stands between the parts of a line is a blank or a tab. nats-py takes any white space for it,
# of which a subject may hold a form feed, and then loses its place.
_PART: Final = rb"[ \t]+([^ \t\r\n]+)"
parser.MSG_RE = re.compile(rb"\AMSG%b%b(%b)?[ \t]+(\d+)\r\n" % (_PART, _PART, _PART))
parser.HMSG_RE = re.compile(rb"\AHMSG%b%b(%b)?[ \t]+(\d+)[ \t]+(\d+)\r\n" % (_PART, _PART, _PART))


class _Client(Client):
    """nats-py's client, less some ways to its end: for good on most of what a server calls an
    error, and silently on a subject that is not UTF-8 or on headers that are none. And it reads
    headers at a third of the cost."""

    def hang_up(self) -> None:
        """Ends the connection to a server that takes nothing, and would never let it be closed."""
        writer = getattr(self._transport, "_io_writer", None)
        if writer:
            writer.transport.abort()

    async def _process_err(self, err_msg: str) -> None:
        if "permissions violation" in err_msg:
            await super()._process_err(err_msg)
        else:  # the server hangs up, which is no reason to stay away
            await self._process_op_err(NatsError(f"nats: {err_msg}"))

    async def _process_headers(self, headers: bytes) -> dict[str, str] | None:
        try:
            parsed: dict[str, str] | None = await super()._process_headers(headers)
        except (UnicodeDecodeError, IndexError):
            return None
        return parsed

    def _build_message(
        self, sid: int, subject: bytes, reply: bytes, data: bytes, headers: dict[str, str] | None
    ) -> Msg:
        if not subject.isascii():
            subject = subject.decode(errors="backslashreplace").encode()
        message: Msg = super()._build_message(sid, subject, reply, data, headers)
        return message

    @staticmethod
    def _parse_header_lines(raw: bytes) -> dict[str, str]:
        lines = (line.partition(":") for line in raw.decode(errors="replace").split("\r\n"))
        return {name.strip(): value.strip() for name, colon, value in lines if colon}


async def _reconnect_when_deaf(nc: "_Client") -> None:
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
    if nc.last_error and "permissions violation" in str(nc.last_error).lower():
        return f"NATS does not allow it: {nc.last_error}"
    return f"NATS did not confirm it: {str(error) or type(error).__name__}"


def _without_password(url: str) -> str:
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
