"""The network between one process and one server: a proxy on loopback, which can be cut, fall
silent, be slow, or lose packets. It needs no privileges and works wherever Python does."""

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator
from typing import Final

from tests.support.ports import free_port

HOST: Final = "127.0.0.1"
CHUNK: Final = 65_536
UNDER_WAY: Final = 256
"""Chunks that a direction holds; a sender with more to say has to wait."""

RESENT_AFTER: Final = (0.2, 1.6)
"""Seconds, shortest and longest, for which a lost packet holds up all behind it: TCP's first
retransmissions."""


class Link:
    """What it does now: ``is_cut`` ends connections and lets none begin; while it is not
    ``is_heard`` it carries nothing and ends nothing; ``delay`` are seconds each way; ``loss`` is
    the share of packets."""

    def __init__(self, server_port: int) -> None:
        self.port = free_port()
        self.is_cut = False
        self.delay = 0.0
        self.loss = 0.0
        self.carried = 0  # bytes, both ways
        self._server_port = server_port
        self._heard = asyncio.Event()
        self._heard.set()
        self._connections: set[asyncio.Task[None]] = set()

    def cut(self) -> None:
        self.is_cut = True
        for connection in self._connections:
            connection.cancel()

    def silence(self) -> None:
        self._heard.clear()

    def mend(self) -> None:
        """As new."""
        self.is_cut, self.delay, self.loss = False, 0.0, 0.0
        self._heard.set()

    @contextlib.asynccontextmanager
    async def working(self) -> AsyncIterator[None]:
        server = await asyncio.start_server(self._accept, HOST, self.port)
        try:
            yield
        finally:
            server.close()
            self.cut()
            await asyncio.gather(*self._connections, return_exceptions=True)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.is_cut:
            writer.transport.abort()
            return
        connection = asyncio.create_task(self._carry(reader, writer))
        self._connections.add(connection)
        connection.add_done_callback(self._connections.discard)

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers = [writer]
        try:
            await self._heard.wait()
            server_reader, server_writer = await asyncio.open_connection(HOST, self._server_port)
            writers.append(server_writer)
            directions = [
                asyncio.create_task(self._pump(reader, server_writer)),
                asyncio.create_task(self._pump(server_reader, writer)),
            ]
            try:
                await asyncio.wait(directions, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for direction in directions:
                    direction.cancel()
                await asyncio.gather(*directions, return_exceptions=True)
        except OSError:
            pass  # the server is away: so is the connection
        finally:
            for each in writers:
                each.transport.abort()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Carries one direction: each chunk arrives after the delay, and after those before it."""
        chunks: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(UNDER_WAY)
        delivering = asyncio.create_task(self._deliver(chunks, writer))
        loop = asyncio.get_running_loop()
        try:
            while chunk := await reader.read(CHUNK):
                self.carried += len(chunk)
                await chunks.put((loop.time() + self.delay, chunk))
            await chunks.put((loop.time() + self.delay, b""))
            await delivering
        finally:
            delivering.cancel()

    async def _deliver(
        self, chunks: asyncio.Queue[tuple[float, bytes]], writer: asyncio.StreamWriter
    ) -> None:
        loop = asyncio.get_running_loop()
        while True:
            due, chunk = await chunks.get()
            if due > loop.time():
                await asyncio.sleep(due - loop.time())
            if self.loss and random.random() < self.loss:
                await asyncio.sleep(random.uniform(*RESENT_AFTER))
            await self._heard.wait()
            if not chunk:
                return
            writer.write(chunk)
            await writer.drain()
