"""Dead letters: the messages that a consumer gave up on. List, retry or discard them."""

import datetime
import hashlib
import re
from collections.abc import AsyncIterator, Iterable, Mapping
from typing import Final

import msgspec
from nats.errors import Error as NatsError
from nats.js.api import RawStreamMsg
from nats.js.errors import APIError, BadRequestError, NotFoundError

from mediabus.runtime.error_text import error_text
from mediabus.runtime.nats.bus import Bus, PublishFailed
from mediabus.runtime.nats.once import publish_once
from mediabus.runtime.nats.stream_scan import headers_in
from mediabus.schemas import dead_letter_headers
from mediabus.schemas.operations.dead_letters import DeadLetter, DeadLetterFilter
from mediabus.schemas.subjects import DEAD_LETTERS_STREAM, EVENTS_STREAM, type_of


class NoSuchDeadLetter(Exception):
    """The dead letter does not exist, or its message is no longer in its stream."""


class TooLarge(Exception):
    """The message leaves no room for the headers of a retry in one NATS message."""


MATCH_ALL: Final = DeadLetterFilter()


class Tally(msgspec.Struct, frozen=True, kw_only=True):
    """The number of dead letters of one consumer, kind and type.

    ``reason`` is that of the newest dead letter.
    """

    consumer: str
    kind: str
    type: str | None
    count: int
    oldest: datetime.datetime
    newest: datetime.datetime
    reason: str


def tally(letters: Iterable[DeadLetter]) -> list[Tally]:
    """Count dead letters by consumer, kind and type; the most frequent first.

    ``letters`` must be ordered oldest first.
    """
    groups: dict[tuple[str, str, str | None], list[DeadLetter]] = {}
    for letter in letters:
        groups.setdefault((letter.consumer, letter.kind, letter.type), []).append(letter)
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
    return sorted(tallies, key=lambda group: -group.count)


class DeadLetters:
    """The dead-letter stream."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus

    async def count(self) -> int:
        """Return the number of dead letters."""
        return (await self._bus.js.stream_info(DEAD_LETTERS_STREAM)).state.messages

    async def newest(
        self, limit: int, only: DeadLetterFilter = MATCH_ALL, *, before: int | None = None
    ) -> list[DeadLetter]:
        """Return the last ``limit`` dead letters, newest first, without their bodies.

        With ``before``, return those with a lower number.
        """
        state = (await self._bus.js.stream_info(DEAD_LETTERS_STREAM)).state
        if not state.messages:
            return []
        last = state.last_seq if before is None else min(before - 1, state.last_seq)
        window = limit
        while True:
            start = max(last - window + 1, 1)
            found = [
                letter
                async for letter in self._from(start)
                if letter.number <= last and only.matches(letter)
            ]
            if len(found) >= limit or start <= max(state.first_seq, 1):
                return found[::-1][:limit]
            window *= 4  # many numbers were discarded: read further back

    async def all(self, only: DeadLetterFilter = MATCH_ALL) -> list[DeadLetter]:
        """Return every dead letter, oldest first, without bodies."""
        return [letter async for letter in self._from(1) if only.matches(letter)]

    async def _from(self, start: int) -> AsyncIterator[DeadLetter]:
        async for message in headers_in(self._bus, DEAD_LETTERS_STREAM, start=start):
            yield _letter(message.sequence, message.time, message.headers)

    async def get(self, number: int) -> tuple[DeadLetter, bytes]:
        """Return a dead letter and the original body of its message.

        Raises:
            NoSuchDeadLetter: if it does not exist, or its body is gone.
        """
        raw = await self._raw(DEAD_LETTERS_STREAM, number)
        if raw is None:
            raise _no_such(number)
        found = _letter(number, raw.time or _NEVER, raw.headers)
        if (raw.headers or {}).get(dead_letter_headers.BODY) == dead_letter_headers.IN_STREAM:
            return found, await self._left_in_stream(found)
        return found, raw.data or b""

    async def _left_in_stream(self, found: DeadLetter) -> bytes:
        raw = await self._raw(found.stream, found.stream_seq or 0)
        if raw is None or not _is_of(found, raw):
            raise NoSuchDeadLetter(
                f"dead letter {found.number} has no body: the message was too large to be copied "
                f"and is no longer in the stream {found.stream}. Discard this dead letter"
            )
        return raw.data or b""

    async def _raw(self, stream: str, number: int) -> RawStreamMsg | None:
        try:
            return await self._bus.js.get_msg(stream, number)
        except (NotFoundError, BadRequestError):
            return None

    async def retry(self, number: int) -> None:
        """Publish the message again to its original subject, then discard the dead letter.

        All consumers of the stream receive it again; a replayed message goes only to its consumer.

        JetStream drops a message whose id it saw in the last two minutes and acknowledges it as if
        it were stored. So the retry gets a new message id, the same one each time this dead letter
        is retried: a repeated retry is stored once. The id contains a digest that only readers of
        the dead letter can compute. A duplicate counts as success only if the stream holds the same
        message. The event id in the body does not change, so consumers can deduplicate by it.

        Raises:
            NoSuchDeadLetter: if it does not exist, or its body is gone.
            TooLarge: if the headers of a retry do not fit. The dead letter stays.
            PublishFailed: if NATS did not confirm the message. The dead letter stays.
        """
        found, body = await self.get(number)
        message_id = await self._retry_id(found)
        headers = {**found.headers, "Nats-Msg-Id": message_id}
        # The server closes the connection on a message above max_payload.
        if dead_letter_headers.size(headers, body) > self._bus.nc.max_payload:
            raise TooLarge(
                f"cannot retry dead letter {number}: with the headers of a retry the message "
                f"exceeds the NATS server's max_payload of {self._bus.nc.max_payload} bytes. "
                "Raise max_payload, or discard the dead letter"
            )
        try:
            await publish_once(
                self._bus.js, found.subject, body, headers, stream=found.stream, timeout=5
            )
        except (NatsError, APIError, TimeoutError) as error:
            why = error_text(error)
            raise PublishFailed(
                f"cannot retry dead letter {number}: NATS did not store the message: {why}"
            ) from error
        await self.discard(number)

    async def _retry_id(self, found: DeadLetter) -> str:
        raw = await self._raw(DEAD_LETTERS_STREAM, found.number)
        if raw is None:
            raise _no_such(found.number)
        secret = hashlib.sha256(f"{raw.time} {raw.headers}".encode(errors="replace")).hexdigest()
        first_id = found.message_id or found.consumer
        return f"{first_id}{dead_letter_headers.RETRY}{found.number}.{secret[:32]}"

    async def discard_all(self) -> int:
        """Delete all current dead letters and return how many there were.

        This is one purge request: single deletes would each wait for the server's disk.
        """
        state = (await self._bus.js.stream_info(DEAD_LETTERS_STREAM)).state
        # A dead letter that arrives in between is kept.
        await self._bus.js.purge_stream(DEAD_LETTERS_STREAM, seq=state.last_seq + 1)
        return state.messages

    async def discard(self, number: int) -> None:
        """Delete a dead letter. Raises NoSuchDeadLetter if it does not exist."""
        try:
            await self._bus.js.delete_msg(DEAD_LETTERS_STREAM, number)
        except (NotFoundError, APIError) as error:
            raise _no_such(number) from error


def _no_such(number: int) -> NoSuchDeadLetter:
    return NoSuchDeadLetter(
        f"dead letter {number} does not exist: list them with `mediabus dead list`"
    )


_NEVER: Final = datetime.datetime.fromtimestamp(0, datetime.UTC)


def _letter(number: int, time: datetime.datetime, headers: Mapping[str, str] | None) -> DeadLetter:
    written = headers or {}
    subject = written.get(dead_letter_headers.SUBJECT, "?")
    return DeadLetter(
        number=number,
        time=time.replace(microsecond=0),
        consumer=written.get(dead_letter_headers.CONSUMER, "?"),
        kind=written.get(dead_letter_headers.KIND, "?"),
        reason=written.get(dead_letter_headers.REASON, "?"),
        subject=subject,
        type=type_of(subject),
        stream=written.get(dead_letter_headers.STREAM, EVENTS_STREAM),
        stream_seq=_number(written.get(dead_letter_headers.STREAM_SEQ)),
        deliveries=_number(written.get(dead_letter_headers.DELIVERIES)) or 0,
        message_id=dead_letter_headers.message_id_of(written),
        headers=dead_letter_headers.original_of(written),
    )


def _is_of(found: DeadLetter, raw: RawStreamMsg) -> bool:
    """Return whether ``raw`` is the message of a dead letter.

    A stream that was deleted and created again reuses its sequence numbers.
    """
    message_id = dead_letter_headers.first_id((raw.headers or {}).get("Nats-Msg-Id"))
    return (raw.subject, message_id) == (found.subject, found.message_id)


def _number(text: str | None) -> int | None:
    """Parse a number in a header. Other programs may have written anything there."""
    return int(text) if text and re.fullmatch(r"[0-9]{1,18}", text) else None
