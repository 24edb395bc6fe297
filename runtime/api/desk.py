"""Handle requests of a subscription concurrently, up to a limit, and send the replies."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Final

import msgspec
from nats.aio.msg import Msg
from nats.errors import Error as NatsError
from nats.errors import MaxPayloadError

from mediabus.runtime import metrics
from mediabus.runtime.api.requests import Headers, problem
from mediabus.runtime.nats.replies import may_reply
from mediabus.schemas.operations.requests import ErrorReply, Problem

log: Final = logging.getLogger("mediabus.api")

AT_A_TIME: Final = 256
"""Requests that one process handles at once. Others wait in order."""

LONGEST_MESSAGE: Final = 4096
FINISH_WITHIN: Final = 5.0
"""Seconds for requests in progress to finish when the process shuts down."""


class Desk:
    """Handles requests concurrently; nats-py alone handles one after another.

    Ignores requests whose reply subject is not an inbox.
    """

    def __init__(self) -> None:
        self._free = asyncio.Semaphore(AT_A_TIME)
        self._under_way: set[asyncio.Task[None]] = set()

    def working(
        self, name: str, work: Callable[[Msg], Coroutine[Any, Any, None]], most: int | None = None
    ) -> Callable[[Msg], Awaitable[None]]:
        """Return a callback for a subscription, with a limit of its own if ``most`` is given."""
        places = asyncio.Semaphore(most) if most else self._free

        async def take(message: Msg) -> None:
            if message.reply and not may_reply(message):
                metrics.OPERATIONS.labels(name, "no_inbox").inc()
                return
            if most and places.locked():
                words = f"{most} of these are under way: try again in a moment"
                await respond_problem(message, problem(503, "busy", words))
                metrics.OPERATIONS.labels(name, "503").inc()
                return
            await places.acquire()
            task = asyncio.create_task(work(message), name=name)
            self._under_way.add(task)
            task.add_done_callback(lambda done: self._done(done, places))

        return take

    def _done(self, task: asyncio.Task[None], places: asyncio.Semaphore) -> None:
        self._under_way.discard(task)
        places.release()

    async def finish(self) -> None:
        """Wait until all requests are answered."""
        while self._under_way:
            await asyncio.wait(self._under_way)

    def give_up(self) -> None:
        """Cancel all requests in progress."""
        for task in self._under_way:
            task.cancel()


async def respond(message: Msg, body: bytes, headers: Headers | None = None) -> None:
    """Send a reply. Raises MaxPayloadError if it is too large for the server."""
    if not message.reply:  # published without a reply subject
        return
    try:
        await message._client.publish(  # noqa: SLF001 - its own respond takes no headers
            message.reply, body, headers=dict(headers) if headers else None
        )
    except MaxPayloadError:
        raise
    except NatsError:  # the connection is lost
        log.debug("reply not sent", extra={"subject": message.subject})


async def respond_problem(message: Msg, wrong: Problem) -> None:
    """Send a problem as the reply."""
    if len(wrong.message) > LONGEST_MESSAGE:  # it may quote a download client or the caller
        wrong = msgspec.structs.replace(wrong, message=f"{wrong.message[:LONGEST_MESSAGE]}…")
    headers = {
        "Nats-Service-Error-Code": str(wrong.code),
        "Nats-Service-Error": " ".join(wrong.message.split())[:500],
    }
    await respond(message, msgspec.json.encode(ErrorReply(error=wrong)), headers)
