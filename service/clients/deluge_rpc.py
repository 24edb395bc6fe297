"""The connection to Deluge's daemon: calls, their answers, and the events that it pushes.

A message is one byte 1, the length of the rest in four, and zlib of rencode, inside TLS
(deluge/transfer.py and deluge/core/rpcserver.py of 2.x).
"""

import asyncio
import contextlib
import itertools
import ssl
import struct
import time
import zlib
from collections.abc import Callable
from typing import Final, cast

from service.clients.http import Patience
from service.clients.port import ClientRefused, ClientUnavailable
from service.clients.rencode import Value, decode, encode

HEADER: Final = struct.Struct("!BI")
VERSION: Final = 1
RESPONSE, ERROR, EVENT = 1, 2, 3

LARGEST: Final = 1 << 28
"""Bytes of a message that are read: a list of 100,000 torrents is far below."""

MAY_WRITE: Final = 5
"""The least level of an account (deluge/core/authmanager.py) that may do more than read."""

ADMINISTRATOR: Final = 10
"""The level of an account that sees the torrents of all the others too."""

LEAVING: Final = 1.0
"""Seconds for an orderly end of the connection."""

EventHandler = Callable[[str, tuple[Value, ...]], None]


class RpcError(ClientRefused):
    """The daemon raised this on a call; ``kind`` is the name of its exception class."""

    def __init__(self, kind: str, words: str) -> None:
        super().__init__(f"Deluge says {words!r}")
        self.kind = kind


class Disconnected(ClientUnavailable):
    """The connection ended under a call."""

    def __init__(self) -> None:
        super().__init__("connection", "Deluge closed the connection")


def any_certificate() -> ssl.SSLContext:
    """Deluge makes its own certificate, which nobody has signed: TLS keeps listeners out here, and
    does not tell one server from another."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


class Wire(asyncio.Protocol):
    """One connection. Not to be used again once ``is_lost``."""

    def __init__(self, on_event: EventHandler) -> None:
        self._on_event = on_event
        self._buffer = bytearray()
        self._numbers = itertools.count(1)
        self._calls: dict[int, asyncio.Future[Value]] = {}
        self._transport: asyncio.Transport | None = None
        self._lost = asyncio.get_running_loop().create_future()
        self._why: ClientUnavailable | None = None
        self.since = time.monotonic()
        self.level = 0  # of the account that logged in

    @property
    def is_lost(self) -> bool:
        """Whether the connection has ended."""
        return self._lost.done() or self._transport is None or self._transport.is_closing()

    async def call(self, method: str, *args: object, **options: object) -> Value:
        """The answer to one call. RpcError or ClientUnavailable; waits for ever by itself."""
        if self.is_lost or self._transport is None:
            raise Disconnected
        number = next(self._numbers)
        answer: asyncio.Future[Value] = asyncio.get_running_loop().create_future()
        self._calls[number] = answer
        body = zlib.compress(encode([[number, method, list(args), dict(options)]]))
        self._transport.write(HEADER.pack(VERSION, len(body)) + body)
        try:
            return await answer
        finally:
            del self._calls[number]

    async def close(self) -> None:
        """End the connection and wait until it has ended."""
        if self._transport is None:
            return
        self._transport.close()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LEAVING):
                await asyncio.shield(self._lost)
        self._transport.abort()
        await self._lost

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        for answer in self._calls.values():
            if not answer.done():
                answer.set_exception(self._why or Disconnected())
        if not self._lost.done():
            self._lost.set_result(None)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        try:
            while (message := self._next_message()) is not None:
                self._take(message)
        except (ValueError, zlib.error) as error:
            self._why = ClientUnavailable(
                "protocol", f"what answers does not speak as Deluge 2 does: {error}"
            )
            self.abort()

    def abort(self) -> None:
        """End the connection at once."""
        if self._transport is not None:
            self._transport.abort()

    def _next_message(self) -> Value:
        """The next one that is here as a whole, None if there is none."""
        if len(self._buffer) < HEADER.size:
            return None
        version, length = HEADER.unpack_from(self._buffer)
        if version != VERSION or length > LARGEST:
            raise ValueError(f"it begins with {bytes(self._buffer[:20])!r}")
        end = HEADER.size + length
        if len(self._buffer) < end:
            return None
        body = zlib.decompress(self._buffer[HEADER.size : end])
        del self._buffer[:end]
        return decode(body)

    def _take(self, message: Value) -> None:
        match message:
            case (1, int(number), value):
                self._answer(number, value)
            case (2, int(number), str(kind), args, *_):
                self._answer(number, RpcError(kind, _words(args)))
            case (3, str(name), tuple(args)):
                self._on_event(name, args)
            case _:
                raise ValueError(f"a message like {str(message)[:80]}")

    def _answer(self, number: int, value: "Value | RpcError") -> None:
        answer = self._calls.get(number)
        if answer is None or answer.done():
            return
        if isinstance(value, RpcError):
            answer.set_exception(value)
        else:
            answer.set_result(value)


def _words(args: Value) -> str:
    return str(args[0]) if isinstance(args, tuple) and args else "an error without a word"


class Rpc:
    """Calls to one daemon. Connects when there is something to ask and again after a loss;
    ``timeout`` in seconds for each call, the login included."""

    def __init__(
        self,
        host: str,
        port: int,
        *,
        username: str,
        password: str,
        events: tuple[str, ...],
        on_event: EventHandler,
        timeout: float,
    ) -> None:
        self._host = host
        self._port = port
        self._username = username
        self._password = password
        self._events = events
        self._on_event = on_event
        self._timeout = timeout
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
