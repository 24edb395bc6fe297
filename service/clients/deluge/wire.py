"""A connection to Deluge's daemon: calls, their answers, and the events that it pushes.

A message is one byte 1, the length of the rest in four, and zlib of rencode, inside TLS
(deluge/transfer.py and deluge/core/rpcserver.py of 2.x).
"""

import asyncio
import contextlib
import itertools
import struct
import time
import zlib
from collections.abc import Callable
from typing import Final, cast

from service.clients.deluge.rencode import Value, decode, encode
from service.clients.port import ClientRefused, ClientUnavailable

HEADER: Final = struct.Struct("!BI")
VERSION: Final = 1

LARGEST: Final = 1 << 28
"""Bytes of a message that are read: a list of 100,000 torrents is far below."""

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
            case (1, int(number), value):  # RPC_RESPONSE
                self._answer(number, value)
            case (2, int(number), str(kind), args, *_):  # RPC_ERROR
                self._answer(number, RpcError(kind, _words(args)))
            case (3, str(name), tuple(args)):  # RPC_EVENT
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
