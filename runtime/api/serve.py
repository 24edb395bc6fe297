"""Serve operations over NATS: decode requests, determine the actor, encode replies and problems.

    async def create(request: CreateMedia, actor: Actor, headers: Headers) -> MediaItem: ...

    async with serving(
        bus,
        name="mediabus-media",
        description="The media library",
        endpoints=[endpoint("media.create", CreateMedia, create), ...],
    ):
        await asyncio.Event().wait()  # on exit, requests in progress are answered first

A handler returns a struct or raises ``OperationError(problem(404, "not_found", "…"))``. Other
exceptions become 503 if PostgreSQL is unreachable, and otherwise 500 with a line in the log.
``headers`` holds the caller's headers; if they have ``CORRELATION_HEADER``, it is valid.
"""

import asyncio
import contextlib
import dataclasses
import functools
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from importlib import metadata
from typing import Final, Protocol, TypeVar

import msgspec
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from nats.errors import Error as NatsError
from nats.errors import FlushTimeoutError, MaxPayloadError
from nats.micro.request import Request as MicroRequest
from nats.micro.service import Service, ServiceConfig

from mediabus.runtime import metrics, tracing
from mediabus.runtime.api.desk import FINISH_WITHIN, Desk, respond, respond_problem
from mediabus.runtime.api.requests import (
    MAX_REQUEST_BYTES,
    Headers,
    OperationError,
    actor_of,
    decoded,
    key_of,
    known_headers,
    problem,
)
from mediabus.runtime.nats.bus import Bus
from mediabus.runtime.nats.replies import may_reply
from mediabus.runtime.postgres.database import AWAY
from mediabus.schemas.codec import InvalidEvent
from mediabus.schemas.identity import Actor, ProvenActor
from mediabus.schemas.operations.requests import Request
from mediabus.schemas.subjects import asked_by_anybody, proven_by

__all__ = [
    "Endpoint",
    "Headers",
    "OperationError",
    "Reply",
    "endpoint",
    "key_of",
    "problem",
    "serving",
]

log: Final = logging.getLogger("mediabus.api")

RequestT = TypeVar("RequestT", bound=Request)
Reply = msgspec.Struct | msgspec.Raw
"""The result of a handler: a struct, or JSON."""
Handle = Callable[[RequestT, Actor, Headers], Awaitable[Reply]]


class Answer(Protocol):
    """Turns the body and headers of a request into the body of the reply.

    ``proven`` is the actor if NATS vouches for it. Raises only OperationError.
    """

    async def __call__(
        self, body: bytes, headers: Headers, proven: ProvenActor | None = None
    ) -> bytes: ...


@dataclasses.dataclass(frozen=True)
class Endpoint:
    """A subject and the handler of its requests."""

    subject: str
    answer: Answer
    places: int | None = None
    """Requests handled at once, for an endpoint that waits for others such as download clients.
    Further requests are refused as ``busy``. None shares the limit of the process."""


def endpoint(
    subject: str,
    request_type: type[RequestT],
    handle: Handle[RequestT],
    *,
    max_bytes: int = MAX_REQUEST_BYTES,
    places: int | None = None,
) -> Endpoint:
    """Return an endpoint for requests of ``request_type`` of at most ``max_bytes`` of JSON."""
    decoder = msgspec.json.Decoder(request_type)

    async def answer(body: bytes, headers: Headers, proven: ProvenActor | None = None) -> bytes:
        headers = known_headers(headers)
        with tracing.operation(subject, headers):  # what it causes belongs to the caller's trace
            actor = proven or actor_of(headers)
            request = decoded(decoder, body, max_bytes)
            return msgspec.json.encode(await _handled(subject, handle(request, actor, headers)))

    return Endpoint(subject, answer, places)


async def _handled(subject: str, handling: Awaitable[Reply]) -> Reply:
    try:
        return await handling
    except OperationError:
        raise
    except InvalidEvent as error:
        message = f"nothing was changed, because its event cannot be stored: {error}"
        raise OperationError(problem(400, "event_refused", message)) from error
    except AWAY as error:
        log.warning("operation refused, PostgreSQL unreachable", extra={"operation": subject})
        wrong = problem(503, "database_away", "PostgreSQL is unreachable: try again in a moment")
        raise OperationError(wrong) from error
    except Exception as error:
        log.exception("operation failed", extra={"operation": subject})
        wrong = problem(500, "internal", "internal error: the log of mediabus has the details")
        raise OperationError(wrong) from error


@contextlib.asynccontextmanager
async def serving(
    bus: Bus,
    *,
    name: str,
    description: str,
    endpoints: Iterable[Endpoint],
    statistics: Callable[[], object] | None = None,
) -> AsyncIterator[None]:
    """Serve endpoints as a NATS micro service while open.

    ``$SRV.INFO`` discovers the service; ``statistics`` are added to ``$SRV.STATS``. Processes with
    the same ``name`` share the requests. On exit, received requests are answered first.

    On a server that `mediabus secure` set up, requests also come from the accounts of keys. Their
    subjects contain the actor, which NATS vouches for.
    """
    service = _service(bus, name, description, statistics)
    with contextlib.suppress(FlushTimeoutError):  # subscriptions are sent again on reconnect
        await service.start()
    desk = Desk()
    proven: list[Subscription] = []
    for each in endpoints:
        take = desk.working(each.subject, functools.partial(_reply, each), each.places)
        await service.add_endpoint(
            name=each.subject.replace(".", "-"), subject=each.subject, handler=_as_handler(take)
        )
        if bus.holds_streams:
            subject = asked_by_anybody(each.subject)
            proven.append(await bus.nc.subscribe(subject, queue=name, cb=take))
    try:
        yield
    finally:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(FINISH_WITHIN):
                await _drain(service, proven)
                await desk.finish()
        desk.give_up()


def _service(
    bus: Bus, name: str, description: str, statistics: Callable[[], object] | None
) -> "_Service":
    config = ServiceConfig(
        name=name,
        version=_version(),
        description=description,
        queue_group=name,
        stats_handler=(lambda _: statistics()) if statistics else None,
    )
    return _Service(bus.nc, config)


class _Service(Service):
    """nats-py's service, restricted to requests whose reply subject is an inbox."""

    async def _handle_ping_request(self, msg: Msg) -> None:
        if may_reply(msg):
            await super()._handle_ping_request(msg)

    async def _handle_info_request(self, msg: Msg) -> None:
        if may_reply(msg):
            await super()._handle_info_request(msg)

    async def _handle_stats_request(self, msg: Msg) -> None:
        if may_reply(msg):
            await super()._handle_stats_request(msg)


def _as_handler(
    take: Callable[[Msg], Awaitable[None]],
) -> Callable[[MicroRequest], Awaitable[None]]:
    async def handle(request: MicroRequest) -> None:
        await take(request._msg)  # noqa: SLF001 - it does not show where to reply

    return handle


async def _drain(service: Service, others: Iterable[Subscription]) -> None:
    """Drain all subscriptions. Unlike Service.stop, this loses no received request."""
    ours = [*(endpoint._subscription for endpoint in service._endpoints), *others]  # noqa: SLF001
    for subscription in (*ours, *service._subscriptions.values()):  # noqa: SLF001
        with contextlib.suppress(NatsError):
            await subscription.drain()


async def _reply(taken: Endpoint, message: Msg) -> None:
    started = time.perf_counter()
    outcome = "ok"
    try:
        proven = proven_by(message.subject)
        actor = proven.actor if proven else None
        body = await taken.answer(message.data, message.headers or {}, actor)
        await respond(message, body)
    except MaxPayloadError:
        outcome = "400"
        words = "the reply is larger than NATS takes here: ask for fewer at a time"
        await respond_problem(message, problem(400, "reply_too_large", words))
    except OperationError as error:
        outcome = str(error.problem.code)
        await respond_problem(message, error.problem)
    finally:
        metrics.OPERATIONS.labels(taken.subject, outcome).inc()
        metrics.OPERATION_SECONDS.labels(taken.subject).observe(time.perf_counter() - started)


def _version() -> str:
    try:
        return metadata.version("mediabus")
    except metadata.PackageNotFoundError:  # run from its sources
        return "0.0.0"
