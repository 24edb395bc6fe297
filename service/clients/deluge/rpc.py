"""Call Deluge's daemon: connect when needed, log in, and reconnect after a loss."""

import asyncio
import ssl
from typing import Final, TypeVar

import msgspec

from mediabus.runtime.redact import without_secrets
from mediabus.service.clients.deluge.rencode import Value
from mediabus.service.clients.deluge.wire import Disconnected, EventHandler, RpcError, Wire
from mediabus.service.clients.http import LoginBackoff, parsed_url
from mediabus.service.clients.port import ClientUnavailable
from mediabus.service.clients.settings import ClientSettings
from mediabus.service.clients.tolerant import mended

T = TypeVar("T")

PORT: Final = 58846

MAY_WRITE: Final = 5
"""The lowest auth level (deluge/core/authmanager.py) with more than read access."""

ADMINISTRATOR: Final = 10
"""The auth level that sees the torrents of all accounts."""


def address(text: str) -> tuple[str, int]:
    """Return the host and port of a ``deluge://`` address. Raises ValueError."""
    url = parsed_url(text, f"deluge://host:{PORT}")
    if url.scheme != "deluge" or not url.host:
        raise ValueError(
            f"url must look like deluge://host:{PORT}, the address of the daemon and not of the web"
            f" page, not {without_secrets(text)!r}"
        )
    return url.host, url.port or PORT


def any_certificate() -> ssl.SSLContext:
    """Return a TLS context that does not verify certificates.

    Deluge's certificate is self-signed. TLS here encrypts, but does not authenticate the server.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


class Rpc:
    """Calls to one daemon.

    It connects on the first call, and again after a loss. ``timeout`` of the settings applies to
    each call, including the login.
    """

    def __init__(
        self, settings: ClientSettings, events: tuple[str, ...], on_event: EventHandler
    ) -> None:
        self._host, self._port = address(settings.url)
        self._username = settings.username
        self._password = settings.password
        self._timeout = settings.timeout
        self._events = events
        self._on_event = on_event
        self._backoff = LoginBackoff()
        self._door = asyncio.Lock()
        self._wire: Wire | None = None

    async def call(
        self, method: str, *args: object, repeatable: bool = True, **options: object
    ) -> Value:
        """Call a method.

        A ``repeatable`` call is repeated on a new connection if the old one was lost unnoticed,
        such as by a restart of the daemon. Raises RpcError or ClientUnavailable.
        """
        wire = self._wire
        if wire is not None and not wire.is_lost:
            try:
                return await self.ask(wire, method, *args, **options)
            except Disconnected:
                if not repeatable:
                    raise
        return await self.ask(await self.wire(), method, *args, **options)

    async def wire(self) -> Wire:
        """Return the connection. Connect if there is none."""
        async with self._door:
            if self._wire is None or self._wire.is_lost:
                self._backoff.check()
                self._wire = await self._connect()
            return self._wire

    async def close(self) -> None:
        """End the connection, if there is one."""
        if self._wire is not None:
            await self._wire.close()

    async def ask(self, wire: Wire, method: str, *args: object, **options: object) -> Value:
        """Call a method over this connection. Raises Disconnected if it was lost."""
        try:
            async with asyncio.timeout(self._timeout):
                return await wire.call(method, *args, **options)
        except TimeoutError as error:
            wire.abort()  # the connection may be dead
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
            raise ClientUnavailable("tls", f"TLS with Deluge at {where} failed: {error}") from error
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
            raise self._backoff.refused(
                ClientUnavailable("authentication", f"refused username or password: {error}")
            ) from error
        if not isinstance(level, int) or level < MAY_WRITE:
            raise self._backoff.refused(
                ClientUnavailable(
                    "authentication", "this account of Deluge is read-only: it needs level 5 or 10"
                )
            )
        wire.level = level
        self._backoff.accepted()


def understood(answer: object, kind: type[T]) -> T:
    """Convert an answer to a ``kind``. A value of the wrong type becomes the field's default."""
    try:
        try:
            return msgspec.convert(answer, kind)
        except msgspec.ValidationError:
            return mended(answer, kind)
    except msgspec.ValidationError as error:
        raise ClientUnavailable(
            "protocol", f"the answer is not that of Deluge 2: {error}"
        ) from error
