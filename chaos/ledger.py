"""The ledger: every acknowledged change and publish, kept on disk."""

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator
from pathlib import Path
from uuid import UUID

import msgspec


class Operation(msgspec.Struct, frozen=True, tag="operation"):
    """An acknowledged operation: its correlation id, and the number of its events."""

    id: str
    events: int


class Published(msgspec.Struct, frozen=True, tag="published"):
    """An event whose direct publish was acknowledged."""

    id: UUID


class Step(msgspec.Struct, frozen=True, tag="step"):
    """An acknowledged change of a download, and the type of its event.

    Its actor is not checked, because the monitor may have recorded the event.
    """

    download: str
    event_type: str


Entry = Operation | Published | Step


class Ledger:
    """A file with one entry per line."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._queue: list[bytes] = []
        self._queued = asyncio.Event()
        self._is_closing = False

    def note(self, entry: Entry) -> None:
        """Queue an entry, which is written to disk soon."""
        self._queue.append(msgspec.json.encode(entry) + b"\n")
        self._queued.set()

    def entries(self) -> list[Entry]:
        """Return the entries on disk."""
        lines = self.path.read_bytes().splitlines()
        return [msgspec.json.decode(line, type=Entry) for line in lines]

    @contextlib.asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        """Write queued entries in the background, many with one fsync; write the rest on exit."""
        with self.path.open("ab", buffering=0) as file:
            writing = asyncio.create_task(self._write(file.fileno()), name="ledger")
            try:
                yield
            finally:
                self._is_closing = True
                self._queued.set()
                await writing

    async def _write(self, file: int) -> None:
        while self._queue or not self._is_closing:
            if not self._is_closing:
                await self._queued.wait()
            self._queued.clear()
            lines = self._queue
            self._queue = []
            await asyncio.to_thread(_put_on_disk, file, lines)


def _put_on_disk(file: int, lines: list[bytes]) -> None:
    if lines:
        os.write(file, b"".join(lines))
        os.fsync(file)
