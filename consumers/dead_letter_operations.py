"""Serve the dead letters over NATS: list, inspect, retry and discard them."""

import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Final

import msgspec
from nats.errors import Error as NatsError
from nats.js.errors import APIError

from mediabus.consumers.dead_letters import DeadLetters, NoSuchDeadLetter, TooLarge
from mediabus.runtime.api.pages import paged
from mediabus.runtime.api.serve import Headers, OperationError, endpoint, problem, serving
from mediabus.runtime.error_text import error_text
from mediabus.runtime.nats.bus import Bus, PublishFailed
from mediabus.runtime.nats.streams import ROOM_FOR_HEADERS
from mediabus.schemas.identity import Actor
from mediabus.schemas.operations.dead_letters import (
    DeadLetter,
    DeadLetterByNumber,
    DeadLetterFailure,
    DeadLetterFilter,
    DeadLetterMessage,
    DeadLetterNumbers,
    DeadLetterPage,
    DeadLettersHandled,
    ListDeadLetters,
)

log: Final = logging.getLogger("mediabus.dead_letters")

MAX_BODY: Final = 200_000
"""Characters of a body that a reply contains. JSON may need six bytes for each."""

AT_ONCE: Final = 4
"""Requests handled at once: each reads from the stream or publishes."""


class DeadLetterOperations:
    """The dead letters of all consumers. Each method handles one kind of request."""

    def __init__(self, bus: Bus) -> None:
        self._letters = DeadLetters(bus)
        self._most_bytes = bus.nc.max_payload - ROOM_FOR_HEADERS

    async def list(self, request: ListDeadLetters, _: Actor, __: Headers) -> DeadLetterPage:
        """Return a page of dead letters, newest first, without bodies."""
        only = DeadLetterFilter(
            consumer=request.consumer, kind=request.kind, type=request.type, reason=request.reason
        )
        before = int(request.after) if request.after else None
        with _nats_errors():
            total = await self._letters.count()
            found = await self._letters.newest(request.limit + 1, only, before=before)
        page = paged(
            found[: request.limit],
            found=len(found),
            cursor=lambda letter: str(letter.number),
            stub=_stub,
            most_bytes=self._most_bytes,
        )
        return DeadLetterPage(items=page.items, next=page.next, total=total)

    async def get(self, request: DeadLetterByNumber, _: Actor, __: Headers) -> DeadLetterMessage:
        """Return a dead letter with its body. Raises OperationError if it does not exist."""
        try:
            with _nats_errors():
                letter, body = await self._letters.get(request.number)
        except NoSuchDeadLetter as error:
            raise OperationError(problem(404, "not_found", str(error), "number")) from error
        text = body.decode(errors="backslashreplace")[:MAX_BODY]
        while len(msgspec.json.encode(text)) > self._most_bytes // 2:
            text = text[: len(text) // 2]
        return DeadLetterMessage(letter=_without_headers(letter), body=text, size=len(body))

    async def retry(
        self, request: DeadLetterNumbers, actor: Actor, _: Headers
    ) -> DeadLettersHandled:
        """Publish messages again, in the order of the request."""
        return await _each("retried", request, actor, self._letters.retry)

    async def discard(
        self, request: DeadLetterNumbers, actor: Actor, _: Headers
    ) -> DeadLettersHandled:
        """Delete dead letters."""
        return await _each("discarded", request, actor, self._letters.discard)


async def _each(
    action: str,
    request: DeadLetterNumbers,
    actor: Actor,
    handle: Callable[[int], Awaitable[None]],
) -> DeadLettersHandled:
    done: list[int] = []
    failed: list[DeadLetterFailure] = []
    for number in dict.fromkeys(request.numbers):
        try:
            await handle(number)
        except (NoSuchDeadLetter, TooLarge, PublishFailed) as error:
            failed.append(DeadLetterFailure(number=number, message=str(error)))
        except (NatsError, APIError, TimeoutError) as error:
            failed.append(DeadLetterFailure(number=number, message=error_text(error)))
        else:
            done.append(number)
    log.info(f"dead letters {action}", extra={"numbers": done, "actor": str(actor)})
    return DeadLettersHandled(done=done, failed=failed)


@contextlib.contextmanager
def _nats_errors() -> Iterator[None]:
    try:
        yield
    except (NatsError, APIError, TimeoutError) as error:
        message = f"cannot read the dead letters: {error_text(error)}. Try again in a moment"
        raise OperationError(problem(503, "nats_away", message)) from error


def _stub(letter: DeadLetter, _: int) -> DeadLetter:
    return msgspec.structs.replace(_without_headers(letter), reason=letter.reason[:MAX_REASON])


def _without_headers(letter: DeadLetter) -> DeadLetter:
    """Return a dead letter whose headers are left out if they could fill a reply."""
    size = sum(len(name) + len(value) for name, value in letter.headers.items())
    return letter if size <= MAX_REASON else msgspec.structs.replace(letter, headers={})


MAX_REASON: Final = 50_000
"""Characters of a reason, or of all headers, in a dead letter that is too large for a page."""


@contextlib.asynccontextmanager
async def serve_dead_letters(bus: Bus) -> AsyncIterator[None]:
    """Serve the operations of ``dead`` while open."""
    letters = DeadLetterOperations(bus)
    async with serving(
        bus,
        name="mediabus-dead-letters",
        description="The messages that consumers could not process",
        endpoints=[
            endpoint("dead.list", ListDeadLetters, letters.list, places=AT_ONCE),
            endpoint("dead.get", DeadLetterByNumber, letters.get, places=AT_ONCE),
            endpoint("dead.retry", DeadLetterNumbers, letters.retry, places=AT_ONCE),
            endpoint("dead.discard", DeadLetterNumbers, letters.discard, places=AT_ONCE),
        ],
    ):
        yield
