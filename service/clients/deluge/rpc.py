"""Calls to Deluge's daemon: the way to it, the login, and a connection whenever one is needed."""

import asyncio
import ssl
from typing import Final, TypeVar

import msgspec
from yarl import URL

from service.clients.deluge.rencode import Value
from service.clients.deluge.wire import Disconnected, EventHandler, RpcError, Wire
from service.clients.http import Patience
from service.clients.port import ClientUnavailable
from service.clients.settings import ClientSettings
from service.runtime.redact import without_secrets

T = TypeVar("T")

PORT: Final = 58846

MAY_WRITE: Final = 5
"""The least level of an account (deluge/core/authmanager.py) that may do more than read."""

ADMINISTRATOR: Final = 10
"""The level of an account that sees the torrents of all the others too."""


def address(text: str) -> tuple[str, int]:
    """The host and port of a ``deluge://`` address. ValueError if it is none."""
    url = URL(text.strip())
    if url.scheme != "deluge" or not url.host:
        raise ValueError(
            f"url must look like deluge://host:{PORT}, which is the daemon's and not that of the"
            f" web page, not {without_secrets(text)!r}"
        )
    return url.host, url.port or PORT


def any_certificate() -> ssl.SSLContext:
    """Deluge makes its own certificate, which nobody has signed: TLS keeps listeners out here, and
    does not tell one server from another."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


class Rpc:
    """Calls to one daemon. Connects when there is something to ask and again after a loss; the
    settings' timeout is one for each call, the login included."""

    def __init__(
        self, settings: ClientSettings, events: tuple[str, ...], on_event: EventHandler
    ) -> None:
        self._host, self._port = address(settings.url)
        self._username = settings.username
        self._password = settings.password
        self._timeout = settings.timeout
        self._events = events
        self._on_event = on_event
        self._patience = Patience()
        self._door = asyncio.Lock()
        self._wire: Wire | None = None

    async def call(
        self, method: str, *args: object, repeatable: bool = True, **options: object
    ) -> Value:
        """One call. A ``repeatable`` one is made again if the daemon had hung up before, unseen, as
        when it was restarted. RpcError, or ClientUnavailable."""
        wire = self._wire
        if wire is not None and not wire.is_lost:
            try:
                return await self.ask(wire, method, *args, **options)
            except Disconnected:
                if not repeatable:
                    raise
        return await self.ask(await self.wire(), method, *args, **options)

    async def wire(self) -> Wire:
        """The connection as it is now, made if there is none."""
        async with self._door:
            if self._wire is None or self._wire.is_lost:
                self._patience.check()
                self._wire = await self._connect()
            return self._wire

    async def close(self) -> None:
        """End the connection, if there is one."""
        if self._wire is not None:
            await self._wire.close()

    async def ask(self, wire: Wire, method: str, *args: object, **options: object) -> Value:
        """One call over this connection and no other: Disconnected when it has ended."""
        try:
            async with asyncio.timeout(self._timeout):
                return await wire.call(method, *args, **options)
        except TimeoutError as error:
            wire.abort()  # it may be a connection that leads nowhere any more
            raise ClientUnavailable(
                "connection", f"Deluge at {self._host}:{self._port} did not answer in time"
            ) from error
        except RpcError as error:
            if error.kind == "NotAuthorizedError":
                raise ClientUnavailable("authentication", str(error)) from error
            raise

    async def _connect(self) -> Wire:
        wire = await self._reach()
        try:
            await self._log_in(wire)
            await self.ask(wire, "daemon.set_event_interest", self._events)
        except BaseException:
            wire.abort()
            raise
        return wire

    async def _reach(self) -> Wire:
        where = f"{self._host}:{self._port}"
        try:
            async with asyncio.timeout(self._timeout):
                _, wire = await asyncio.get_running_loop().create_connection(
                    lambda: Wire(self._on_event), self._host, self._port, ssl=any_certificate()
                )
        except ssl.SSLError as error:
            raise ClientUnavailable("tls", f"no TLS with {where}: {error}") from error
        except TimeoutError as error:
            raise ClientUnavailable(
                "connection", f"Deluge at {where} did not answer in time"
            ) from error
        except OSError as error:
            raise ClientUnavailable(
                "connection", f"cannot reach Deluge at {where}: {error}"
            ) from error
        return wire

    async def _log_in(self, wire: Wire) -> None:
        try:
            level = await self.ask(
                wire,
                "daemon.login",
                self._username,
                self._password,
                client_version="2.0",  # only its absence, which means 1.3, is refused
            )
        except RpcError as error:
            raise self._patience.refused(
                ClientUnavailable("authentication", f"refused username or password: {error}")
            ) from error
        if not isinstance(level, int) or level < MAY_WRITE:
            raise self._patience.refused(
                ClientUnavailable("authentication", "Deluge lets this account only read")
            )
        wire.level = level
        self._patience.accepted()


def understood(answer: Value, kind: type[T]) -> T:
    """The answer as a ``kind``."""
    try:
        return msgspec.convert(answer, kind)
    except msgspec.ValidationError as error:
        raise ClientUnavailable(
            "protocol", f"Deluge does not answer as Deluge 2 does: {error}"
        ) from error
