"""A connection to Deluge's daemon: calls, answers, and pushed events.

A message is the byte 1, its length in four bytes, and zlib-compressed rencode, over TLS
(deluge/transfer.py and deluge/core/rpcserver.py of 2.x).
"""

import asyncio
import contextlib
import itertools
import reprlib
import struct
import time
import zlib
from collections.abc import Callable
from typing import Final, cast

from mediabus.service.clients.deluge.rencode import Value, decode, encode
from mediabus.service.clients.limits import MAX_PARSED_BYTES, THREAD_FROM_BYTES, LimitExceeded
from mediabus.service.clients.port import ClientRefused, ClientUnavailable

HEADER: Final = struct.Struct("!BI")
VERSION: Final = 1

MESSAGES_AT_ONCE: Final = 1_000
"""Messages to process before a pause, so that a flood of them does not block the event loop."""

PAUSE: Final = 0.1
"""Seconds of that pause."""

CLOSE_WITHIN: Final = 1.0
"""Seconds to close the connection before it is aborted."""

EventHandler = Callable[[str, tuple[Value, ...]], None]


class RpcError(ClientRefused):
    """The daemon answered a call with an error. ``kind`` is the name of its exception class."""

    def __init__(self, kind: str, words: str) -> None:
        super().__init__(f"Deluge refused: {words!r}")
        self.kind = kind


class Disconnected(ClientUnavailable):
    """The connection was lost during a call."""

    def __init__(self) -> None:
        super().__init__("connection", "Deluge closed the connection")


class Wire(asyncio.Protocol):
    """One connection. Once ``is_lost`` is true, it cannot be used again."""

    def __init__(self, on_event: EventHandler) -> None:
        self._on_event = on_event
        self._buffer = bytearray()
        self._numbers = itertools.count(1)
        self._calls: dict[int, asyncio.Future[Value]] = {}
        self._transport: asyncio.Transport | None = None
        self._lost = asyncio.get_running_loop().create_future()
        self._error: ClientUnavailable | None = None
        self._is_busy = False  # processing the buffer; reading is paused
        self.since = time.monotonic()
        self.level = 0  # of the account that logged in

    @property
    def is_lost(self) -> bool:
        """Return whether the connection was lost or closed."""
        return self._lost.done() or self._transport is None or self._transport.is_closing()

    async def call(self, method: str, *args: object, **options: object) -> Value:
        """Call a method. Raises RpcError or ClientUnavailable. Has no timeout of its own."""
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
        """Close the connection, and wait until it is closed."""
        if self._transport is None:
            return
        self._transport.close()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_WITHIN):
                await asyncio.shield(self._lost)
        self._transport.abort()
        await self._lost

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        for answer in self._calls.values():
            if not answer.done():
                answer.set_exception(self._error or Disconnected())
        if not self._lost.done():
            self._lost.set_result(None)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        if not self._is_busy:
            self._work()

    def _work(self) -> None:
        """Process the complete messages in the buffer. Pause reading while one is decoded."""
        self._is_busy = False
        if self._transport is None or self._transport.is_closing():
            return
        try:
            for _ in range(MESSAGES_AT_ONCE):
                if (content := self._next_content()) is None:
                    self._transport.resume_reading()
                    return
                if len(content) > THREAD_FROM_BYTES:
                    self._pause().run_in_executor(None, decode, content).add_done_callback(
                        self._decoded
                    )
                    return
                self._dispatch(decode(content))
        except (ValueError, zlib.error) as error:
            self._fail(error)
        else:
            self._pause().call_later(PAUSE, self._work)

    def _pause(self) -> asyncio.AbstractEventLoop:
        self._is_busy = True
        if self._transport is not None:
            self._transport.pause_reading()
        return asyncio.get_running_loop()

    def _decoded(self, decoding: "asyncio.Future[Value]") -> None:
        try:
            self._dispatch(decoding.result())
        except ValueError as error:
            self._fail(error)
        else:
            self._work()

    def _fail(self, error: Exception) -> None:
        self._error = ClientUnavailable(
            "protocol", f"the server does not speak the protocol of Deluge 2: {error}"
        )
        self.abort()

    def abort(self) -> None:
        """Abort the connection."""
        if self._transport is not None:
            self._transport.abort()

    def _next_content(self) -> bytes | None:
        """Return the content of the next complete message in the buffer, or None."""
        if len(self._buffer) < HEADER.size:
            return None
        version, length = HEADER.unpack_from(self._buffer)
        if version != VERSION or length > MAX_PARSED_BYTES:
            raise ValueError(f"a message starts with {bytes(self._buffer[:20])!r}")
        end = HEADER.size + length
        if len(self._buffer) < end:
            return None
        content = inflated(self._buffer[HEADER.size : end])
        del self._buffer[:end]
        return content

    def _dispatch(self, message: Value) -> None:
        match message:
            case (1, int(number), value):  # RPC_RESPONSE
                self._answer(number, value)
            case (2, int(number), str(kind), args, *_):  # RPC_ERROR
                self._answer(number, RpcError(kind, _words(args)))
            case (3, str(name), tuple(args)):  # RPC_EVENT
                self._on_event(name, args)
            case _:
                raise ValueError(f"unknown message {reprlib.repr(message)}")

    def _answer(self, number: int, value: "Value | RpcError") -> None:
        answer = self._calls.get(number)
        if answer is None or answer.done():
            return
        if isinstance(value, RpcError):
            answer.set_exception(value)
        else:
            answer.set_result(value)


def inflated(body: bytes | bytearray) -> bytes:
    """Decompress a body. Raises ValueError if it is too large or incomplete."""
    inflating = zlib.decompressobj()
    content = inflating.decompress(body, MAX_PARSED_BYTES + 1)
    if len(content) > MAX_PARSED_BYTES:
        raise LimitExceeded(f"a message of more than {MAX_PARSED_BYTES} bytes")
    if not inflating.eof:
        raise ValueError("an incomplete message")
    return content


def _words(args: Value) -> str:
    return str(args[0]) if isinstance(args, tuple) and args else "an error without a message"
