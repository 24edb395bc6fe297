"""Trace what a process does with OpenTelemetry, if ``OTEL_EXPORTER_OTLP_ENDPOINT`` is set.

Without it, no function here does more than compare a variable with None, and ``opentelemetry`` is
not imported. With it, ``otlp.py`` makes the spans and sends them from a thread of its own.

Attributes follow the semantic conventions of OpenTelemetry for messaging, databases and HTTP. None
of them holds a URL, a token, a title or the data of an event.
"""

import contextlib
import logging
import os
from collections.abc import (
    AsyncIterator,
    Awaitable,
    Callable,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)
from typing import TYPE_CHECKING, Final

from mediabus.runtime.tracer import OFF, Carrier, Span, Tracer
from mediabus.schemas import trace
from mediabus.schemas.envelope import Envelope
from mediabus.schemas.subjects import EVENTS_STREAM

if TYPE_CHECKING:  # programs that use mediabus need no HTTP server
    from aiohttp import web

log: Final = logging.getLogger("mediabus.tracing")

ENDPOINTS: Final = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
PROTOCOLS: Final = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
PROTOCOL: Final = "http/protobuf"
INSTALL: Final = "install mediabus[otel], or unset OTEL_EXPORTER_OTLP_ENDPOINT"

FLUSH_WITHIN: Final = 2.0
"""Seconds to send the last spans when the process stops."""

_tracer: Tracer | None = None


Context = contextlib.AbstractContextManager[Span]


def is_wanted(variables: Mapping[str, str]) -> bool:
    """Return whether the environment asks for traces."""
    if variables.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return False
    if variables.get("OTEL_TRACES_EXPORTER", "").strip().lower() == "none":
        return False
    return any(variables.get(name, "").strip() for name in ENDPOINTS)


@contextlib.asynccontextmanager
async def tracing(service: str) -> AsyncIterator[None]:
    """Trace this process while open, if the environment asks for it. Never raises.

    ``service`` is the name of the service, unless ``OTEL_SERVICE_NAME`` is set.
    """
    global _tracer  # noqa: PLW0603 - one for each process, like the metrics
    _tracer = tracer = _opened(service) if is_wanted(os.environ) else None
    try:
        yield
    finally:
        _tracer = None
        if tracer is not None:
            await tracer.close(FLUSH_WITHIN)


def _opened(service: str) -> Tracer | None:
    protocol = next((os.environ[name] for name in PROTOCOLS if os.environ.get(name)), PROTOCOL)
    if protocol != PROTOCOL:
        log.warning("OTLP protocol not supported", extra={"asked": protocol, "used": PROTOCOL})
    try:
        from mediabus.runtime.otlp import OtlpTracer  # noqa: PLC0415 - only if it is wanted

        tracer = OtlpTracer(service)
    except ImportError as error:
        log.warning("not tracing", extra={"reason": str(error), "advice": INSTALL})
        return None
    except Exception as error:  # noqa: BLE001 - such as an OTEL_* variable that is not valid
        advice = "check the OTEL_* variables"
        log.warning("not tracing", extra={"reason": str(error), "advice": advice})
        return None
    log.info("tracing", extra={"service": tracer.service})
    return tracer


def is_on() -> bool:
    """Return whether this process traces."""
    return _tracer is not None


def operation(
    subject: str, headers: Mapping[str, str]
) -> contextlib.AbstractContextManager[object]:
    """Open the span of an operation. Its events carry the context of the span.

    ``headers`` are those of the request, with the names in lower case. If the process does not
    trace, the events carry the context of the request.
    """
    if _tracer is None:
        return trace.carrying(headers)
    attributes = _messaging(subject, "process", "process")
    parent = trace.trace_in(headers)
    return _carried(_tracer.span(f"process {subject}", "server", attributes, parent=parent))


def publish(payloads: Callable[[], Iterable[Carrier]], size: int) -> Context:
    """Open the span of a batch that the relay publishes, with a link to each event.

    ``payloads`` is only called if the process traces.
    """
    if _tracer is None:
        return OFF
    attributes = _messaging(EVENTS_STREAM, "publish", "send", size)
    return _tracer.span(
        f"publish {EVENTS_STREAM}", "client", attributes, parent={}, links=payloads()
    )


def process(consumer: str, carriers: Iterable[Carrier], size: int) -> Context:
    """Open the span of a batch that a consumer handles, with a link to each event.

    ``carriers`` are the extension attributes of the events.
    """
    if _tracer is None:
        return OFF
    attributes = _messaging(EVENTS_STREAM, "process", "process", size)
    return _tracer.span(
        f"process {EVENTS_STREAM}",
        "consumer",
        {**attributes, "messaging.consumer.group.name": consumer},
        parent={},
        links=carriers,
    )


def notification(target: str, durable: str, envelopes: Sequence[Envelope]) -> Context:
    """Open the span of one try to deliver a message.

    A message about one event continues its trace. One about several events has links to them.
    """
    if _tracer is None:
        return OFF
    attributes = {
        **_messaging(EVENTS_STREAM, "process", "process", len(envelopes)),
        "messaging.consumer.group.name": durable,
        "mediabus.target": target,
    }
    carriers = [envelope.extensions for envelope in envelopes]
    if len(carriers) == 1:
        return _tracer.span(f"notify {target}", "consumer", attributes, parent=carriers[0])
    return _tracer.span(f"notify {target}", "consumer", attributes, parent={}, links=carriers)


def poll(client: str, kind: str) -> Context:
    """Open the span of a poll of a download client."""
    if _tracer is None:
        return OFF
    attributes = {"mediabus.client": client, "mediabus.client.kind": kind}
    return _tracer.span(f"poll {client}", "client", attributes, parent={})


def transition(event_type: str) -> contextlib.AbstractContextManager[object]:
    """Open the span of a change that the monitor saw. Its events carry the context of the span."""
    if _tracer is None:
        return OFF
    return _carried(
        _tracer.span(
            f"create {event_type}", "producer", _messaging(EVENTS_STREAM, "create", "create")
        )
    )


def query() -> Context:
    """Open the span of a query of the table ``events``."""
    if _tracer is None:
        return OFF
    attributes = {
        "db.system.name": "postgresql",
        "db.operation.name": "SELECT",
        "db.collection.name": "events",
    }
    return _tracer.span("SELECT events", "client", attributes)


Receive = Callable[["web.BaseRequest"], Awaitable["web.StreamResponse"]]
METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH"})


def http_handler(route: str, receive: Receive) -> Receive:
    """Return a handler that answers each request in a span. ``route`` has no values of a path."""

    async def traced(request: "web.BaseRequest") -> "web.StreamResponse":
        if _tracer is None:
            return await receive(request)
        method = request.method if request.method in METHODS else "_OTHER"
        attributes = {"http.request.method": method, "http.route": route}
        parent = trace.trace_in({name.lower(): value for name, value in request.headers.items()})
        opened = _tracer.span(f"{method} {route}", "server", attributes, parent=parent)
        with opened as span, trace.carrying(span.headers()):
            response = await receive(request)
            span.note("http.response.status_code", response.status)
            if response.status >= 500:
                span.fail(str(response.status), response.reason or "")
            return response

    return traced


def link_to(carrier: Carrier) -> None:
    """Link the current span to that of an event."""
    if _tracer is not None:
        _tracer.link_to(carrier)


@contextlib.contextmanager
def _carried(opened: Context) -> Iterator[Span]:
    with opened as span, trace.carrying(span.headers()):
        yield span


def _messaging(
    destination: str, name: str, kind: str, size: int | None = None
) -> dict[str, str | int]:
    attributes: dict[str, str | int] = {
        "messaging.system": "nats",
        "messaging.destination.name": destination,
        "messaging.operation.name": name,
        "messaging.operation.type": kind,
    }
    if size is not None:
        attributes["messaging.batch.message_count"] = size
    return attributes
