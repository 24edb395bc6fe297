"""Outboxes that work inside a transaction of the caller."""

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable

import asyncpg

from mediabus.runtime.postgres.database import Connection
from mediabus.schemas.envelope import Envelope
from mediabus.service.outbox.outbox import Outbox, Recorder, with_events


class JoinedOutbox(Outbox):
    """Records in an open transaction, whose owner wakes the relay after the commit."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder

    async def perform(
        self, statement: str, *args: object, events: Iterable[Envelope]
    ) -> list[asyncpg.Record]:
        """Do as ``Outbox.perform``; the change takes effect when the transaction commits."""
        envelopes = list(events)
        recording, recorded = with_events(statement, envelopes)
        rows = await self._recorder.connection.fetch(recording, *recorded, *args)
        if rows:
            self._recorder.has_events = True
            if not rows[0]["recorded"]:
                self._recorder.unrecorded.extend(envelopes)
        return rows

    @contextlib.asynccontextmanager
    async def transaction(self) -> AsyncIterator[Recorder]:
        """Open a savepoint, which can be rolled back without the joined transaction."""
        async with self._recorder.connection.transaction():
            yield self._recorder


class NotingOutbox(Outbox):
    """Calls ``note`` in the transaction of each change, on the same connection."""

    def __init__(self, outbox: Outbox, note: Callable[[Connection], Awaitable[None]]) -> None:
        self._outbox = outbox
        self._note = note

    async def perform(
        self, statement: str, *args: object, events: Iterable[Envelope]
    ) -> list[asyncpg.Record]:
        """Do as ``Outbox.perform``, and call ``note`` if something changed."""
        async with self._outbox.transaction() as work:
            rows = await JoinedOutbox(work).perform(statement, *args, events=events)
            if rows:
                await self._note(work.connection)
        return rows
