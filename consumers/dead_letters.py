"""The dead letters: what no consumer could use, to be looked at, tried again or discarded."""

import datetime
import fnmatch
import re
from collections.abc import AsyncIterator, Iterable, Mapping
from typing import Final

import msgspec
from nats.errors import Error as NatsError
from nats.js.api import RawStreamMsg
from nats.js.errors import APIError, BadRequestError, NotFoundError

from schemas import letter
from schemas.subjects import DEAD_LETTERS_STREAM, EVENTS_STREAM, type_of
from service.runtime.bus import Bus, PublishFailed
from service.runtime.headers import headers_in


class NoSuchLetter(Exception):
    """There is no dead letter of that number, or its message is gone from the events stream."""


class TooLarge(Exception):
    """A message that fills what a server takes, so that no retry can be told from the first try."""


class DeadLetter(msgspec.Struct, frozen=True, kw_only=True):
    """A dead letter, buried at ``time``, to the second. ``number`` names it here, ``stream_seq``
    in ``stream``; ``kind`` is ``invalid``, ``rejected`` or ``failed``; ``type`` is what the
    subject says; ``headers`` are those that the message came with."""

    number: int
    time: datetime.datetime
    consumer: str
    kind: str
    reason: str
    subject: str
    type: str | None
    stream: str
    stream_seq: int | None
    deliveries: int
    message_id: str | None
    headers: dict[str, str]


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """Which letters are meant: those for which all that is given holds. ``type`` may be a pattern
    such as ``download.*``, ``reason`` is a part of the reason."""

    consumer: str | None = None
    kind: str | None = None
    type: str | None = None
    reason: str | None = None

    def takes(self, one: DeadLetter) -> bool:
        """Whether a letter is meant."""
        return (
            self.consumer in {None, one.consumer}
            and self.kind in {None, one.kind}
            and (self.type is None or fnmatch.fnmatchcase(one.type or "", self.type))
            and (self.reason is None or self.reason.casefold() in one.reason.casefold())
        )


EVERY: Final = Wanted()


class Tally(msgspec.Struct, frozen=True, kw_only=True):
    """How many letters there are of one consumer, kind and type; the newest one's time and
    reason."""

    consumer: str
    kind: str
    type: str | None
    count: int
    oldest: datetime.datetime
    newest: datetime.datetime
    reason: str


def tally(letters: Iterable[DeadLetter]) -> list[Tally]:
    """The letters, oldest first, counted; the most frequent first."""
    groups: dict[tuple[str, str, str | None], list[DeadLetter]] = {}
    for one in letters:
        groups.setdefault((one.consumer, one.kind, one.type), []).append(one)
    tallies = [
        Tally(
            consumer=consumer,
            kind=kind,
            type=event_type,
            count=len(group),
            oldest=group[0].time,
            newest=group[-1].time,
            reason=group[-1].reason,
        )
        for (consumer, kind, event_type), group in groups.items()
    ]
    return sorted(tallies, key=lambda one: -one.count)


class DeadLetters:
    """The stream of dead letters."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus

    async def count(self) -> int:
        """How many there are."""
        return (await self._bus.js.stream_info(DEAD_LETTERS_STREAM)).state.messages

    async def newest(self, limit: int, wanted: Wanted = EVERY) -> list[DeadLetter]:
        """The last ``limit``, newest first. Bodies stay where they are: see ``body``."""
        state = (await self._bus.js.stream_info(DEAD_LETTERS_STREAM)).state
        window = limit
        while True:
            start = max(state.last_seq - window + 1, 1)
            found = [one async for one in self._from(start) if wanted.takes(one)]
            if len(found) >= limit or start <= max(state.first_seq, 1):
                return found[::-1][:limit]
            window *= 4  # many numbers are gone already: look further back

    async def all(self, wanted: Wanted = EVERY) -> list[DeadLetter]:
        """Every one, oldest first."""
        return [one async for one in self._from(1) if wanted.takes(one)]

    async def _from(self, start: int) -> AsyncIterator[DeadLetter]:
        async for message in headers_in(self._bus, DEAD_LETTERS_STREAM, start=start):
            metadata = message.metadata
            yield _letter(metadata.sequence.stream, metadata.timestamp, message.headers)

    async def get(self, number: int) -> tuple[DeadLetter, bytes]:
        """A dead letter and the message's body as it came. Raises NoSuchLetter."""
        raw = await self._raw(DEAD_LETTERS_STREAM, number)
        if raw is None:
            raise _no_such(number)
        found = _letter(number, raw.time or _NEVER, raw.headers)
        if (raw.headers or {}).get(letter.BODY) == letter.IN_STREAM:
            return found, await self._left_in_stream(found)
        return found, raw.data or b""

    async def _left_in_stream(self, found: DeadLetter) -> bytes:
        raw = await self._raw(found.stream, found.stream_seq or 0)
        if raw is None or not _is_of(found, raw):
            raise NoSuchLetter(
                f"the message of dead letter {found.number} was too large to be kept with it and "
                f"is no longer in the stream {found.stream}: nothing is left of it but this letter"
            )
        return raw.data or b""

    async def _raw(self, stream: str, number: int) -> RawStreamMsg | None:
        try:
            return await self._bus.js.get_msg(stream, number)
        except (NotFoundError, BadRequestError):
            return None

    async def retry(self, number: int) -> None:
        """Publishes the message again, to where and as it came, and then lets the letter go. All
        consumers of the events see it again; one that was replayed, its consumer alone. Raises
        NoSuchLetter, TooLarge and PublishFailed.

        Its message id is a new one: JetStream drops an id that it saw in the last two minutes, with
        an acknowledgement that looks like success, and the letter would be the only trace. The new
        id is the letter's, so that a retry that is itself repeated is stored once. The event's own
        id is in the body and stays: who stores events by it still stores it once.
        """
        found, body = await self.get(number)
        message_id = f"{found.message_id or found.consumer}{letter.RETRY}{number}"
        headers = {**found.headers, "Nats-Msg-Id": message_id}
        if letter.size(headers, body) > self._bus.nc.max_payload:  # the server would hang up
            raise TooLarge(
                f"dead letter {number} stays: with the headers of a retry the message has more "
                f"than the {self._bus.nc.max_payload} bytes that the NATS server takes"
            )
        try:
            await self._bus.js.publish(
                found.subject, body, headers=headers, stream=found.stream, timeout=5
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
            raise _no_such(number) from error


def _no_such(number: int) -> NoSuchLetter:
    return NoSuchLetter(f"no dead letter {number}: `mediabus dead list` has them")


_NEVER: Final = datetime.datetime.fromtimestamp(0, datetime.UTC)


def _letter(number: int, time: datetime.datetime, headers: Mapping[str, str] | None) -> DeadLetter:
    written = headers or {}
    subject = written.get(letter.SUBJECT, "?")
    return DeadLetter(
        number=number,
        time=time.replace(microsecond=0),
        consumer=written.get(letter.CONSUMER, "?"),
        kind=written.get(letter.KIND, "?"),
        reason=written.get(letter.REASON, "?"),
        subject=subject,
        type=type_of(subject),
        stream=written.get(letter.STREAM, EVENTS_STREAM),
        stream_seq=_number(written.get(letter.STREAM_SEQ)),
        deliveries=_number(written.get(letter.DELIVERIES)) or 0,
        message_id=letter.message_id_of(written),
        headers=letter.original_of(written),
    )


def _is_of(found: DeadLetter, raw: RawStreamMsg) -> bool:
    """Whether this is the letter's message: a stream that was made anew counts anew."""
    message_id = letter.first_id((raw.headers or {}).get("Nats-Msg-Id"))
    return (raw.subject, message_id) == (found.subject, found.message_id)


def _number(text: str | None) -> int | None:
    """What we wrote there; anybody else may have written anything."""
    return int(text) if text and re.fullmatch(r"[0-9]{1,18}", text) else None
