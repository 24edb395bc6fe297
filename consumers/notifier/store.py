"""Keep the state of a target in the bucket ``notifier``, one writer at a time."""

import asyncio
import logging
from typing import Final

import msgspec
from nats.errors import Error as NatsError
from nats.js.errors import APIError, KeyNotFoundError, KeyWrongLastSequenceError
from nats.js.kv import KeyValue

from mediabus.consumers.notifier.state import TargetState
from mediabus.runtime.error_text import error_text
from mediabus.runtime.nats.bus import Bus
from mediabus.schemas.subjects import NOTIFIER_BUCKET

log: Final = logging.getLogger("mediabus.notifier")

RETRY_EVERY: Final = 0.5
"""Seconds between two attempts to write."""


class Superseded(Exception):
    """Another process has written the state: JetStream gave it the event that this one has."""


class StateStore:
    """The state of one target."""

    def __init__(self, bus: Bus, target: str) -> None:
        self._bus = bus
        self._key = target
        self._bucket: KeyValue | None = None
        self._revision = 0

    async def load(self) -> TargetState:
        """Read the state. Raises nats-py's errors."""
        bucket = await self._opened()
        try:
            entry = await bucket.get(self._key)
        except KeyNotFoundError as error:
            self._revision = error.entry.revision if error.entry and error.entry.revision else 0
            return TargetState()
        self._revision = entry.revision or 0
        return msgspec.json.decode(entry.value or b"{}", type=TargetState)

    async def save(self, state: TargetState) -> None:
        """Write the state and wait until NATS has stored it, however long that takes.

        Raises:
            Superseded: another process wrote it since ``load``.
        """
        value = msgspec.json.encode(state)
        is_unknown = False
        while True:
            try:
                bucket = await self._opened()
                self._revision = await bucket.update(self._key, value, last=self._revision)
            except KeyWrongLastSequenceError as error:
                if is_unknown and await self._is_stored(value):
                    return
                raise Superseded from error
            except (NatsError, APIError, TimeoutError) as error:
                is_unknown = True
                log.warning("state not stored, will retry", extra={"error": error_text(error)})
                await asyncio.sleep(RETRY_EVERY)
            else:
                return

    async def _is_stored(self, value: bytes) -> bool:
        """Return whether an attempt without an answer did store the value."""
        entry = await (await self._opened()).get(self._key)
        if entry.value != value:
            return False
        self._revision = entry.revision or 0
        return True

    async def _opened(self) -> KeyValue:
        if self._bucket is None:
            self._bucket = await self._bus.js.key_value(NOTIFIER_BUCKET)
        return self._bucket
