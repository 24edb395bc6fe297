"""The events of a target that wait: its head, and those behind it, read from the stream."""

import datetime
from collections.abc import Callable, Collection
from typing import Final

from mediabus.consumers.notifier.rules import Rule
from mediabus.consumers.notifier.schedule import Held
from mediabus.runtime.nats.bus import Bus
from mediabus.runtime.nats.stream_reader import Stored, stored_messages
from mediabus.schemas import codec
from mediabus.schemas.envelope import Envelope
from mediabus.schemas.subjects import EVENTS_STREAM, EVENTS_SUBJECTS

MAX_WAITING: Final = 2_000
"""Events held in memory for one target. Those behind them stay in the stream until then."""


MAX_BYTES: Final = 32_000_000
"""Bytes of their data that are held."""


class Window:
    """The events from the head on, in the order of the stream."""

    def __init__(
        self, bus: Bus, rule: Rule, filters: list[str], clock: Callable[[], datetime.datetime]
    ) -> None:
        self._clock = clock
        self._bus = bus
        self._rule = rule
        self._subjects = filters[0] if len(filters) == 1 else EVENTS_SUBJECTS
        self._held: list[Held] = []
        self._read_to = 0
        self._head = 0
        self._size = 0

    def begin(self, head: Held) -> None:
        """Start at a new head, and forget the events before it.

        A stream that was deleted and created again counts from 1 again.
        """
        is_known = self._head <= head.seq <= self._read_to
        behind = [held for held in self._held if held.seq > head.seq] if is_known else []
        self._held = [head, *behind]
        self._read_to = self._read_to if is_known else head.seq
        self._head = head.seq
        self._size = sum(map(size_of, self._held))

    def waiting(self, done: Collection[str]) -> list[Held]:
        """Return the events that still need a message."""
        return [held for held in self._held if held.id not in done]

    async def read(self) -> None:
        """Read what the stream has got since. Raises TimeoutError and nats-py's errors."""
        if self._is_full():
            return
        messages = stored_messages(
            self._bus, EVENTS_STREAM, subjects=self._subjects, after=self._read_to
        )
        async for message in messages:
            self._read_to = message.sequence
            if (held := self._matching(message)) is not None:
                self._held.append(held)
                self._size += size_of(held)
                if self._is_full():
                    return

    def _is_full(self) -> bool:
        return len(self._held) >= MAX_WAITING or self._size >= MAX_BYTES

    def _matching(self, message: Stored) -> Held | None:
        try:
            envelope = codec.decode(
                message.data,
                message.headers,
                published_at=lambda: message.time,
                trust_actor=self._bus.trusts_actors,
            )
        except codec.InvalidEvent:
            return None  # the consumer dead-letters it when it is the head
        if not self._rule.matches(envelope):
            return None
        return held_at(message.sequence, envelope, min(message.time, self._clock()))


def size_of(held: Held) -> int:
    """Return the bytes of an event's data."""
    return len(memoryview(held.envelope.data))


def held_at(seq: int, envelope: Envelope, stored_at: datetime.datetime) -> Held:
    """Return a waiting event. One that claims to be later than ``stored_at`` happened then."""
    return Held(seq, envelope, min(envelope.time, stored_at))
