"""Users and programs at work while a test breaks things, and what was acknowledged to them."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from uuid import UUID

from nats.errors import Error as NatsError

from mediabus.runtime.nats.bus import Bus, PublishFailed
from mediabus.schemas.operations.requests import CORRELATION_HEADER
from tests.support.cluster import ELECTED_WITHIN
from tests.support.eventually import eventually
from tests.support.library import Library
from tests.support.stream import event

USERS = 8
ANSWER_WITHIN = 1.0
"""Seconds that a user waits for a reply; a request to a killed server gets none."""

GOES_ON_WITHIN = 5.0


class Load:
    """Users who perform operations, and programs that publish, and when each last got an answer.

    ``operations`` (correlation ids) and ``published`` (ids of events) must be stored in the end.
    """

    def __init__(self, library: Library, bus: Bus) -> None:
        self._library = library
        self._bus = bus
        self._number = 0
        self.operations: set[str] = set()
        self.published: set[UUID] = set()
        self.answered_at = self.stored_at = 0.0

    async def operate(self) -> None:
        while True:
            self._number += 1
            operation = f"operation {self._number}"
            with contextlib.suppress(NatsError, TimeoutError):
                await self._library.ask(
                    "media.create",
                    {"type": "tv_show", "title": "A show"},
                    headers={CORRELATION_HEADER: operation},
                    timeout=ANSWER_WITHIN,
                )
                self.operations.add(operation)
                self.answered_at = time.monotonic()
            await asyncio.sleep(0.01)

    async def publish(self) -> None:
        while True:
            said = event("said")
            while said.id not in self.published:
                with contextlib.suppress(PublishFailed):
                    await self._bus.publish_envelope(said)
                    self.published.add(said.id)
                    self.stored_at = time.monotonic()
                await asyncio.sleep(0.01)

    async def goes_on(self, since: float) -> None:
        """Users are answered again, and events stored, soon after ``since``."""
        settled = since + 0.3  # what was under way
        await eventually(lambda: self.answered_at > settled, within=GOES_ON_WITHIN)
        await eventually(lambda: self.stored_at > settled, within=ELECTED_WITHIN)


@contextlib.asynccontextmanager
async def under_load(library: Library, bus: Bus) -> AsyncIterator[Load]:
    load = Load(library, bus)
    async with asyncio.TaskGroup() as tasks:
        working = [tasks.create_task(load.operate()) for _ in range(USERS)]
        working += [tasks.create_task(load.publish()) for _ in range(USERS)]
        try:
            yield load
        finally:
            for task in working:
                task.cancel()
