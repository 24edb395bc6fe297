"""Pause or resume all downloads of a client."""

import asyncio
import logging
from collections.abc import Callable
from typing import Final, get_args
from uuid import UUID

from mediabus.consumers.home_assistant.library import Command, Library, LibraryUnavailable
from mediabus.consumers.home_assistant.states import shown_clients
from mediabus.consumers.home_assistant.topics import safe_id
from mediabus.schemas.plain_text import plain

log: Final = logging.getLogger("mediabus.mqtt")

COMMANDS: Final[dict[bytes, Command]] = {name.encode(): name for name in get_args(Command)}
AT_A_TIME: Final = 4
MAX_FAILURES: Final = 8
"""Failed requests after which a command ends: the client is probably unreachable."""


class Commands:
    """The commands in progress, at most one for each client. A new one replaces the one before."""

    def __init__(self, library: Library, tasks: asyncio.TaskGroup) -> None:
        self._library = library
        self._tasks = tasks
        self._running: dict[str, asyncio.Task[None]] = {}
        self._wanted: dict[str, Command] = {}

    def start(self, client_id: str, payload: bytes) -> None:
        """Start a command, which continues if the broker disappears. Ignore an unknown one."""
        command = COMMANDS.get(payload)
        client = self._client_of(client_id)
        if command is None or client is None:
            text = plain(payload[:50].decode(errors="replace"))
            log.warning("unknown command ignored", extra={"client": client_id, "command": text})
            return
        self._wanted[client] = command
        if client not in self._running:
            task = self._tasks.create_task(self._run_all(client), name=f"command {client}")
            self._running[client] = task

    def _client_of(self, client_id: str) -> str | None:
        clients = shown_clients(self._library.statuses)
        return next((c.client for c in clients if safe_id(c.client) == client_id), None)

    async def _run_all(self, client: str) -> None:
        try:
            while command := self._wanted.pop(client, None):
                await self._run(client, command)
        finally:
            del self._running[client]

    async def _run(self, client: str, command: Command) -> None:
        fields = {"client": client, "command": command}
        try:
            done = await _Run(self._library, command, lambda: client in self._wanted).all(client)
        except LibraryUnavailable as error:
            log.error("command failed", extra={**fields, "error": str(error)})
        except Exception:
            log.exception("command failed", extra=fields)
        else:
            log.info("command done", extra={**fields, "downloads": done})


class _Run:
    """One command on all downloads of a client, until another command replaces it."""

    def __init__(self, library: Library, command: Command, is_replaced: Callable[[], bool]) -> None:
        self._library = library
        self._command = command
        self._is_replaced = is_replaced
        self._failures = 0
        self._done = 0

    async def all(self, client: str) -> int:
        """Return how many downloads were changed. Raises LibraryUnavailable."""
        found = [d async for d in self._library.downloads_for(client, self._command)]
        for at in range(0, len(found), AT_A_TIME):
            if self._is_replaced():
                break
            await asyncio.gather(*map(self._one, found[at : at + AT_A_TIME]))
            if self._failures >= MAX_FAILURES:
                raise LibraryUnavailable(f"{self._failures} requests failed")
        return self._done

    async def _one(self, download: UUID) -> None:
        try:
            await self._library.act(download, self._command)
            self._done += 1
        except LibraryUnavailable as error:
            self._failures += 1
            extra = {"download": str(download), "command": self._command, "error": str(error)}
            log.warning("download not changed", extra=extra)
