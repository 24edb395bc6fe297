"""The ledger: what was acknowledged, on disk before it counts."""

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator
from pathlib import Path
from uuid import UUID

import msgspec


class Operation(msgspec.Struct, frozen=True, tag="operation"):
    """An acknowledged operation: its correlation id, and how many events it owes."""

    id: str
    events: int


class Published(msgspec.Struct, frozen=True, tag="published"):
    """An event whose direct publish was acknowledged."""

    id: UUID


class Step(msgspec.Struct, frozen=True, tag="step"):
    """An acknowledged step in a download's life, and the type of the event that tells of it.
    The monitor may have been the one who saw it, so it is not asked whose name is on it."""

    download: str
    told_by: str


Entry = Operation | Published | Step


class Ledger:
    """A file of entries, a line each."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._waiting: list[bytes] = []
        self._arrived = asyncio.Event()
        self._is_closing = False

    def note(self, entry: Entry) -> None:
        """Takes an entry; it is on the disk soon after."""
        self._waiting.append(msgspec.json.encode(entry) + b"\n")
        self._arrived.set()

    def entries(self) -> list[Entry]:
        """What is on the disk."""
        lines = self.path.read_bytes().splitlines()
        return [msgspec.json.decode(line, type=Entry) for line in lines]

    @contextlib.asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        """Writes what comes, many entries with one fsync; all of them on leaving."""
        with self.path.open("ab", buffering=0) as file:
            writing = asyncio.create_task(self._write(file.fileno()), name="ledger")
            try:
                yield
            finally:
                self._is_closing = True
                self._arrived.set()
                await writing

    async def _write(self, file: int) -> None:
        while self._waiting or not self._is_closing:
            if not self._is_closing:
                await self._arrived.wait()
            self._arrived.clear()
            lines, self._waiting = self._waiting, []
            await asyncio.to_thread(_put_on_disk, file, lines)


def _put_on_disk(file: int, lines: list[bytes]) -> None:
    if lines:
        os.write(file, b"".join(lines))
        os.fsync(file)
