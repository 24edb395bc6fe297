"""The network between a process and a server: a proxy on loopback.

It can refuse connections, deliver nothing, delay data or lose packets. It needs no privileges and
runs on every platform.
"""

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator
from typing import Final

from tests.support.ports import free_port

HOST: Final = "127.0.0.1"
CHUNK: Final = 65_536
MAX_CHUNKS: Final = 256
"""Chunks buffered per direction. The sender waits when the buffer is full."""

RESENT_AFTER: Final = (0.2, 1.6)
"""Minimum and maximum seconds that a lost packet holds up those behind it: the first
retransmissions of TCP."""


class Link:
    """A proxy to one server, with the faults that are set.

    ``is_cut`` refuses connections. A silenced link delivers nothing and closes nothing. ``delay``
    is in seconds per direction, ``loss`` is the share of lost packets, and ``carried`` counts the
    bytes in both directions.
    """

    def __init__(self, server_port: int) -> None:
        self.port = free_port()
        self.is_cut = False
        self.delay = 0.0
        self.loss = 0.0
        self.carried = 0
        self._server_port = server_port
        self._delivers = asyncio.Event()
        self._delivers.set()
        self._connections: set[asyncio.Task[None]] = set()

    def cut(self) -> None:
        self.is_cut = True
        for connection in self._connections:
            connection.cancel()

    def silence(self) -> None:
        self._delivers.clear()

    def mend(self) -> None:
        """Remove all faults."""
        self.is_cut = False
        self.delay = 0.0
        self.loss = 0.0
        self._delivers.set()

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
            await self._delivers.wait()
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
            pass  # the server is down: close the connection
        finally:
            for open_writer in writers:
                open_writer.transport.abort()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Forward one direction in order, each chunk after the delay."""
        chunks: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(MAX_CHUNKS)
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
            await self._delivers.wait()
            if not chunk:
                return
            writer.write(chunk)
            await writer.drain()
