"""A receiver of OTLP over HTTP, which decodes the spans that it is sent."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from typing import NamedTuple

from aiohttp import web
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import KeyValue
from opentelemetry.proto.trace.v1 import trace_pb2

from tests.support.eventually import eventually

Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]
Value = str | int | None


class Context(NamedTuple):
    """A span, as another one refers to it."""

    trace_id: str
    span_id: str

    @classmethod
    def of(cls, traceparent: str) -> "Context":
        _, trace_id, span_id, _ = traceparent.split("-")
        return cls(trace_id, span_id)


class Span(NamedTuple):
    """A span as it was received."""

    name: str
    kind: str
    context: Context
    parent: str
    links: frozenset[Context]
    attributes: Mapping[str, Value]
    has_failed: bool
    reason: str
    resource: Mapping[str, Value]

    @property
    def service(self) -> Value:
        return self.resource["service.name"]


class Sink:
    """The spans of all requests. ``answer`` answers in place of 200."""

    def __init__(self, answer: Answer | None) -> None:
        self.url = ""
        self.requests = 0
        self.headers: Mapping[str, str] = {}
        self.spans: list[Span] = []
        self._answer = answer

    async def receive(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        self.requests += 1
        self.headers = dict(request.headers)
        assert request.path == "/v1/traces"
        if self._answer is not None:
            return await self._answer(request)
        self.spans += decoded(body)
        return web.Response(content_type="application/x-protobuf")

    def named(self, name: str) -> list[Span]:
        return [span for span in self.spans if span.name == name]

    async def span(
        self,
        name: str,
        *,
        where: Callable[[Span], bool] = lambda _: True,
        within: float = 20,
    ) -> Span:
        """The first span with a name that fulfills a condition, waited for."""

        def found() -> list[Span]:
            return [span for span in self.named(name) if where(span)]

        return (await eventually(found, within=within))[0]


def decoded(body: bytes) -> list[Span]:
    """Decode the body of a request."""
    request = ExportTraceServiceRequest.FromString(body)
    return [
        _span(span, attributes_of(resource.resource.attributes))
        for resource in request.resource_spans
        for scope in resource.scope_spans
        for span in scope.spans
    ]


def _span(span: trace_pb2.Span, resource: Mapping[str, Value]) -> Span:
    return Span(
        name=span.name,
        kind=trace_pb2.Span.SpanKind.Name(span.kind).removeprefix("SPAN_KIND_").lower(),
        context=Context(span.trace_id.hex(), span.span_id.hex()),
        parent=span.parent_span_id.hex(),
        links=frozenset(Context(link.trace_id.hex(), link.span_id.hex()) for link in span.links),
        attributes=attributes_of(span.attributes),
        has_failed=span.status.code == trace_pb2.Status.STATUS_CODE_ERROR,
        reason=span.status.message,
        resource=resource,
    )


def attributes_of(pairs: Iterable[KeyValue]) -> dict[str, Value]:
    found: dict[str, Value] = {}
    for pair in pairs:
        kind = pair.value.WhichOneof("value")
        found[pair.key] = getattr(pair.value, kind) if kind else None
    return found


def status(code: int) -> Answer:
    async def answer(_: web.Request) -> web.Response:
        return web.Response(status=code, text="token=hunter2")

    return answer


async def never(_: web.Request) -> web.StreamResponse:
    """Answer nothing."""
    await asyncio.sleep(3600)
    raise AssertionError


async def endless(request: web.Request) -> web.StreamResponse:
    """Answer without an end."""
    response = web.StreamResponse()
    await response.prepare(request)
    with contextlib.suppress(ConnectionError):
        while True:
            await response.write(b"x" * 65_536)
    return response


@contextlib.asynccontextmanager
async def sink(answer: Answer | None = None) -> AsyncIterator[Sink]:
    """Run a receiver on loopback."""
    receiver = Sink(answer)
    application = web.Application(client_max_size=64 * 1024 * 1024)
    application.router.add_route("*", "/{path:.*}", receiver.receive)
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        receiver.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        yield receiver
    finally:
        await runner.cleanup()
