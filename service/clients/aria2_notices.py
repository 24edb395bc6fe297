"""What aria2 tells of itself over its WebSocket: that something happened to a download, no more."""

import asyncio
import time
from typing import Final

import aiohttp
from yarl import URL

CLOSING: Final = 1.0
"""Seconds for an orderly end of the connection."""

RETRY: Final = 30.0
"""Seconds until a WebSocket that could not be opened is tried again: a proxy may not pass it."""


class Notices:
    """Listens while nobody waits: notices are read when somebody asks whether there were any."""

    def __init__(self, session: aiohttp.ClientSession, url: URL) -> None:
        self._session = session
        self._url = url.with_scheme("wss" if url.scheme == "https" else "ws")
        self._socket: aiohttp.ClientWebSocketResponse | None = None
        self._not_before = 0.0

    async def heard(self) -> bool:
        """Whether anything may have happened since the last call that only a notice tells: one has
        come, or some may have been missed. Never raises: without notices aria2 is only polled."""
        if self._socket is None or self._socket.closed:
            return await self._open()
        heard = False
        while self._socket is not None and (message := await self._next(self._socket)):
            heard = True
            if message.type is not aiohttp.WSMsgType.TEXT:  # closed, or broken
                await self.aclose()
        return heard

    async def aclose(self) -> None:
        """End the connection, if there is one."""
        socket, self._socket = self._socket, None
        if socket is not None:
            await socket.close()

    async def _open(self) -> bool:
        if time.monotonic() < self._not_before:
            return False
        try:
            self._socket = await self._session.ws_connect(
                self._url, timeout=aiohttp.ClientWSTimeout(ws_close=CLOSING)
            )
        except (aiohttp.ClientError, OSError):
            self._not_before = time.monotonic() + RETRY
        return self._socket is not None

    async def _next(self, socket: aiohttp.ClientWebSocketResponse) -> aiohttp.WSMessage | None:
        """The next one that is here already."""
        try:
            async with asyncio.timeout(0):
                return await socket.receive()
        except TimeoutError:
            return None
