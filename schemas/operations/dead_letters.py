"""Requests and replies of the operations on dead letters."""

import datetime
import fnmatch
from typing import Annotated

import msgspec
from msgspec import Meta

from mediabus.schemas.operations.requests import Limit, Request

Number = Annotated[int, Meta(ge=1, le=2**63 - 1)]


class DeadLetter(msgspec.Struct, frozen=True, kw_only=True):
    """A dead letter.

    ``number`` is its sequence number in the dead-letter stream; ``stream_seq`` is the message's in
    ``stream``, the stream it came from. ``time`` is when it was dead-lettered, to the second.
    ``kind`` is ``invalid``, ``rejected`` or ``failed``. ``type`` is the event type in the subject.
    ``headers`` are the original headers of the message.
    """

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


class DeadLetterFilter(Request, frozen=True, kw_only=True):
    """A filter of dead letters: all given conditions must hold.

    ``type`` may be a pattern such as ``download.*``. ``reason`` matches any part of the reason,
    ignoring case.
    """

    consumer: str | None = None
    kind: str | None = None
    type: str | None = None
    reason: str | None = None

    def matches(self, letter: DeadLetter) -> bool:
        """Return whether a dead letter meets all conditions."""
        return (
            self.consumer in {None, letter.consumer}
            and self.kind in {None, letter.kind}
            and (self.type is None or fnmatch.fnmatchcase(letter.type or "", self.type))
            and (self.reason is None or self.reason.casefold() in letter.reason.casefold())
        )


class ListDeadLetters(DeadLetterFilter, frozen=True, kw_only=True):
    """``dead.list``: the newest first. ``after`` is the ``next`` of the previous page."""

    limit: Limit = 50
    after: Annotated[str, Meta(pattern=r"^[1-9][0-9]{0,17}$")] | None = None


class DeadLetterByNumber(Request, frozen=True, kw_only=True):
    """``dead.get``: a dead letter with the body of its message."""

    number: Number


class DeadLetterNumbers(Request, frozen=True, kw_only=True):
    """``dead.retry``: publish the messages again. ``dead.discard``: delete the dead letters."""

    numbers: Annotated[list[Number], Meta(min_length=1, max_length=100)]


class DeadLetterPage(msgspec.Struct, frozen=True, kw_only=True):
    """A page of dead letters. ``total`` counts all of them, regardless of the filter."""

    items: list[DeadLetter]
    total: int
    next: str | None = None


class DeadLetterMessage(msgspec.Struct, frozen=True, kw_only=True):
    """A dead letter and the body of its message as text, cut after 200,000 characters.

    Bytes that are not UTF-8 are escaped. ``size`` is that of the whole body in bytes.
    """

    letter: DeadLetter
    body: str
    size: int


class DeadLetterFailure(msgspec.Struct, frozen=True, kw_only=True):
    """Why one dead letter was not retried or discarded."""

    number: int
    message: str


class DeadLettersHandled(msgspec.Struct, frozen=True, kw_only=True):
    """The dead letters that were retried or discarded, and those that were not."""

    done: list[int]
    failed: list[DeadLetterFailure]
