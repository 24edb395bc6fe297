"""The dead letters: what no consumer could use, to be looked at, tried again or discarded."""

import datetime
from collections.abc import AsyncIterator, Mapping
from typing import Final

import msgspec
from nats.errors import Error as NatsError
from nats.js.api import RawStreamMsg
from nats.js.errors import APIError, NotFoundError

from schemas import letter
from schemas.subjects import DEAD_LETTERS_STREAM, EVENTS_STREAM
from service.runtime.bus import Bus, PublishFailed
from service.runtime.headers import headers_in


class NoSuchLetter(Exception):
    """There is no dead letter of that number, or its message is gone from the events stream."""


class DeadLetter(msgspec.Struct, frozen=True, kw_only=True):
    """A dead letter, buried at ``time``, to the second. ``number`` names it here, ``stream_seq``
    in the events stream; ``kind`` is ``invalid``, ``rejected`` or ``failed``; ``headers`` are those
    that the message came with."""

    number: int
    time: datetime.datetime
    consumer: str
    kind: str
    reason: str
    subject: str
    stream_seq: int | None
    deliveries: int
    message_id: str | None
    headers: dict[str, str]


class DeadLetters:
    """The stream of dead letters."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus

    async def count(self) -> int:
        """How many there are."""
        return (await self._bus.js.stream_info(DEAD_LETTERS_STREAM)).state.messages

    async def newest(self, limit: int) -> list[DeadLetter]:
        """The last ``limit``, newest first. Bodies stay where they are: see ``body``."""
        state = (await self._bus.js.stream_info(DEAD_LETTERS_STREAM)).state
        window = limit
        while True:
            start = max(state.last_seq - window + 1, 1)
            found = [one async for one in self._from(start)]
            if len(found) >= limit or start <= max(state.first_seq, 1):
                return found[::-1][:limit]
            window *= 4  # many numbers are gone already: look further back

    async def all(self) -> list[DeadLetter]:
        """Every one, oldest first."""
        return [one async for one in self._from(1)]

    async def _from(self, start: int) -> AsyncIterator[DeadLetter]:
        async for message in headers_in(self._bus, DEAD_LETTERS_STREAM, start=start):
            metadata = message.metadata
            yield _letter(metadata.sequence.stream, metadata.timestamp, message.headers)

    async def get(self, number: int) -> tuple[DeadLetter, bytes]:
        """A dead letter and the message's body as it came. Raises NoSuchLetter."""
        raw = await self._raw(DEAD_LETTERS_STREAM, number)
        found = _letter(number, raw.time or _NEVER, raw.headers)
        if (raw.headers or {}).get(letter.BODY) == letter.IN_STREAM and found.stream_seq:
            raw = await self._raw(EVENTS_STREAM, found.stream_seq)
        return found, raw.data or b""

    async def _raw(self, stream: str, number: int) -> RawStreamMsg:
        try:
            return await self._bus.js.get_msg(stream, number)
        except NotFoundError as error:
            raise NoSuchLetter(f"no dead letter {number}: `mediabus dead list` has them") from error

    async def retry(self, number: int) -> None:
        """Publishes the message again, to where and as it came, and then lets the letter go. All
        consumers of the events see it again. Raises NoSuchLetter and PublishFailed.

        Its message id is a new one: JetStream drops an id that it saw in the last two minutes, with
        an acknowledgement that looks like success, and the letter would be the only trace. The new
        id is the letter's, so that a retry that is itself repeated is stored once. The event's own
        id is in the body and stays: who stores events by it still stores it once.
        """
        found, body = await self.get(number)
        message_id = f"{found.message_id or found.consumer}{letter.RETRY}{number}"
        headers = {**found.headers, "Nats-Msg-Id": message_id}
        try:
            await self._bus.js.publish(
                found.subject, body, headers=headers, stream=EVENTS_STREAM, timeout=5
            )
        except (NatsError, APIError, TimeoutError) as error:
            why = str(error) or type(error).__name__
            raise PublishFailed(
                f"dead letter {number} stays: NATS did not take it: {why}"
            ) from error
        await self.discard(number)

    async def discard(self, number: int) -> None:
        """Lets a dead letter go for good. Raises NoSuchLetter."""
        try:
            await self._bus.js.delete_msg(DEAD_LETTERS_STREAM, number)
        except (NotFoundError, APIError) as error:
            raise NoSuchLetter(f"no dead letter {number}: `mediabus dead list` has them") from error


_NEVER: Final = datetime.datetime.fromtimestamp(0, datetime.UTC)


def _letter(number: int, time: datetime.datetime, headers: Mapping[str, str] | None) -> DeadLetter:
    written = headers or {}
    stream_seq = written.get(letter.STREAM_SEQ, "")
    return DeadLetter(
        number=number,
        time=time.replace(microsecond=0),
        consumer=written.get(letter.CONSUMER, "?"),
        kind=written.get(letter.KIND, "?"),
        reason=written.get(letter.REASON, "?"),
        subject=written.get(letter.SUBJECT, "?"),
        stream_seq=int(stream_seq) if stream_seq.isdecimal() else None,
        deliveries=int(written.get(letter.DELIVERIES, "0")),
        message_id=letter.message_id_of(written),
        headers=letter.original_of(written),
    )
