"""Operations over NATS: requests decoded, answers and problems encoded, the actor named, no hang.

    async def create(request: CreateMedia, actor: Actor, headers: Headers) -> MediaItem: ...

    async with serving(
        bus,
        name="mediabus-media",
        description="The media library",
        endpoints=[endpoint("media.create", CreateMedia, create), ...],
    ):
        await asyncio.Event().wait()  # leaving answers what is under way, then stops

A handler answers with a struct, or raises ``OperationError(problem(404, "not_found", "…"))``. What
else it raises becomes 503 where PostgreSQL is away, and 500 with a line in the log otherwise.
``headers`` holds the caller's headers; ``CORRELATION_HEADER`` in it is valid where it is there.
"""

import asyncio
import contextlib
import dataclasses
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from importlib import metadata
from typing import Final, TypeVar

import msgspec
from nats.errors import Error as NatsError
from nats.errors import FlushTimeoutError, MaxPayloadError
from nats.micro.request import Request as MicroRequest
from nats.micro.service import Service, ServiceConfig

from schemas.commands import ErrorReply, Problem, Request
from schemas.identity import Actor
from service.runtime import metrics
from service.runtime.bus import Bus
from service.runtime.database import AWAY
from service.runtime.requests import (
    MAX_REQUEST_BYTES,
    Headers,
    OperationError,
    actor_of,
    decoded,
    known_headers,
    problem,
)

__all__ = ["Endpoint", "Headers", "OperationError", "endpoint", "problem", "serving"]

log: Final = logging.getLogger("mediabus.api")

AT_A_TIME: Final = 256
"""Requests that one process works on at once; the others wait, in order, for their turn."""
FINISH_WITHIN: Final = 5.0
"""Seconds that requests under way have when the process is to leave."""

RequestT = TypeVar("RequestT", bound=Request)
Handle = Callable[[RequestT, Actor, Headers], Awaitable[msgspec.Struct]]


@dataclasses.dataclass(frozen=True)
class Endpoint:
    """A subject and what answers there: from the body and the headers to the body of the reply.
    ``answer`` raises OperationError, and nothing else."""

    subject: str
    answer: Callable[[bytes, Headers], Awaitable[bytes]]


def endpoint(
    subject: str,
    request_type: type[RequestT],
    handle: Handle[RequestT],
    *,
    max_bytes: int = MAX_REQUEST_BYTES,
) -> Endpoint:
    """An endpoint that takes ``request_type`` in at most ``max_bytes`` of JSON."""
    decoder = msgspec.json.Decoder(request_type)

    async def answer(body: bytes, headers: Headers) -> bytes:
        headers = known_headers(headers)
        actor = actor_of(headers)
        request = decoded(decoder, body, max_bytes)
        return msgspec.json.encode(await _handled(subject, handle(request, actor, headers)))

    return Endpoint(subject, answer)


async def _handled(subject: str, handling: Awaitable[msgspec.Struct]) -> msgspec.Struct:
    try:
        return await handling
    except OperationError:
        raise
    except AWAY as error:
        log.warning("not done: PostgreSQL is away", extra={"operation": subject})
        wrong = problem(503, "database_away", "PostgreSQL is away: try again in a moment")
        raise OperationError(wrong) from error
    except Exception as error:
        log.exception("operation failed", extra={"operation": subject})
        wrong = problem(500, "internal", "this is a fault of mediabus: its log has the details")
        raise OperationError(wrong) from error


@contextlib.asynccontextmanager
async def serving(
    bus: Bus, *, name: str, description: str, endpoints: Iterable[Endpoint]
) -> AsyncIterator[None]:
    """Serves the endpoints as a NATS micro service, found by ``$SRV.INFO``. Processes of the same
    ``name`` share the requests. On leaving, what was received is answered first."""
    service = Service(
        bus.nc,
        ServiceConfig(name=name, version=_version(), description=description, queue_group=name),
    )
    with contextlib.suppress(FlushTimeoutError):  # the connection that comes next asks for it anew
        await service.start()
    desk = _Desk()
    for each in endpoints:
        await service.add_endpoint(
            name=each.subject.replace(".", "-"), subject=each.subject, handler=desk.taking(each)
        )
    try:
        yield
    finally:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(FINISH_WITHIN):
                await _drain(service)
                await desk.finish()
        desk.give_up()


async def _drain(service: Service) -> None:
    """What Service.stop does; but that throws away what was received and not yet handed over."""
    ours = [endpoint._subscription for endpoint in service._endpoints]  # noqa: SLF001
    for subscription in (*ours, *service._subscriptions.values()):  # noqa: SLF001
        with contextlib.suppress(NatsError):
            await subscription.drain()


class _Desk:
    """Works on many requests at a time: nats.micro by itself hands over one after the other."""

    def __init__(self) -> None:
        self._free = asyncio.Semaphore(AT_A_TIME)
        self._under_way: set[asyncio.Task[None]] = set()

    def taking(self, taken: Endpoint) -> Callable[[MicroRequest], Awaitable[None]]:
        async def take(request: MicroRequest) -> None:
            await self._free.acquire()
            task = asyncio.create_task(_reply(taken, request), name=taken.subject)
            self._under_way.add(task)
            task.add_done_callback(self._done)

        return take

    def _done(self, task: asyncio.Task[None]) -> None:
        self._under_way.discard(task)
        self._free.release()

    async def finish(self) -> None:
        while self._under_way:
            await asyncio.wait(self._under_way)

    def give_up(self) -> None:
        for task in self._under_way:
            task.cancel()


async def _reply(taken: Endpoint, request: MicroRequest) -> None:
    started = time.perf_counter()
    outcome = "ok"
    try:
        body = await taken.answer(request.data, request.headers or {})
        await _respond(request, body)
    except MaxPayloadError:
        outcome = "400"
        message = "the reply is larger than NATS takes here: ask for fewer at a time"
        await _respond_problem(request, problem(400, "reply_too_large", message))
    except OperationError as error:
        outcome = str(error.problem.code)
        await _respond_problem(request, error.problem)
    finally:
        metrics.OPERATIONS.labels(taken.subject, outcome).inc()
        metrics.OPERATION_SECONDS.labels(taken.subject).observe(time.perf_counter() - started)


async def _respond(request: MicroRequest, body: bytes, headers: Headers | None = None) -> None:
    try:
        await request.respond(body, headers=dict(headers) if headers else None)
    except MaxPayloadError:
        raise
    except (NatsError, ValueError):  # NATS is gone; or published, so that nobody waits for a reply
        log.debug("reply not sent", extra={"subject": request.subject})


async def _respond_problem(request: MicroRequest, wrong: Problem) -> None:
    headers = {
        "Nats-Service-Error-Code": str(wrong.code),
        "Nats-Service-Error": " ".join(wrong.message.split())[:500],
    }
    await _respond(request, msgspec.json.encode(ErrorReply(error=wrong)), headers)


def _version() -> str:
    try:
        return metadata.version("mediabus")
    except metadata.PackageNotFoundError:  # run from its sources
        return "0.0.0"
