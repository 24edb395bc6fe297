"""Make spans with OpenTelemetry's SDK, and send them over OTLP/HTTP.

Imported only by ``tracing.py``, and only if the environment asks for traces. The SDK reads the
standard variables ``OTEL_*`` itself. Its batch processor sends from a thread of its own, from a
queue that drops spans when it is full, so no operation waits for the receiver of the spans.
"""

import asyncio
import contextlib
import logging
import os
import re
import threading
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping
from importlib import metadata
from typing import Any, Final

import requests
from opentelemetry import context as otel_context
from opentelemetry import trace as otel
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.environment_variables import OTEL_SPAN_LINK_COUNT_LIMIT
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import SpanLimits, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from mediabus.runtime.redact import without_secrets
from mediabus.runtime.trace_context import headers_of
from mediabus.runtime.tracer import Attributes, Carrier, Kind, Span, record
from mediabus.schemas import trace

log: Final = logging.getLogger("mediabus.tracing")

LOG_EVERY: Final = 60.0
"""Seconds between two log lines about spans that cannot be sent."""

LONGEST: Final = 256
"""Characters of an attribute, and of the reason of a failure."""

MAX_ANSWER: Final = 65_536
"""Bytes of an answer that are read. Nothing in it matters but the status."""

MAX_LINKS: Final = 32
"""Links of a span, unless ``OTEL_SPAN_LINK_COUNT_LIMIT`` is set. With the SDK's 128, a full queue
of batches takes 170 MB instead of 50."""

THREAD: Final = "OtelBatchSpan"
"""How the name of the SDK's thread begins."""

KINDS: Final[dict[Kind, otel.SpanKind]] = {
    "server": otel.SpanKind.SERVER,
    "client": otel.SpanKind.CLIENT,
    "consumer": otel.SpanKind.CONSUMER,
    "producer": otel.SpanKind.PRODUCER,
}

_PATH: Final = re.compile(r"url: [^ ]*")
"""How urllib3 names the path of the endpoint, which may hold a token."""

_NO_CONTEXT: Final = otel_context.Context()
_propagator: Final = TraceContextTextMapPropagator()


class OtlpTracer:
    """Makes spans, and sends them to the endpoint that the environment names."""

    def __init__(self, service: str) -> None:
        resource = _resource(service)
        self.service = str(resource.attributes["service.name"])
        self._most_links = _most_links()
        self._log = _RareLog()
        self._exporter = OTLPSpanExporter(session=_BoundedSession())
        self._provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        self._provider.add_span_processor(BatchSpanProcessor(self._exporter))
        self._tracer = self._provider.get_tracer("mediabus", _version())
        self._log.install()

    @contextlib.contextmanager
    def span(
        self,
        name: str,
        kind: Kind,
        attributes: Attributes,
        *,
        parent: Carrier | None = None,
        links: Iterable[Carrier] = (),
    ) -> Iterator[Span]:
        """See ``Tracer``."""
        started = self._tracer.start_span(
            name,
            context=None if parent is None else _context(parent),
            kind=KINDS[kind],
            attributes={key: _bounded(value) for key, value in attributes.items()},
            links=self._links(links),
            record_exception=False,  # its text may hold secrets, and its traceback is in the log
            set_status_on_exception=False,
        )
        span = OtlpSpan(started)
        token = otel_context.attach(otel.set_span_in_context(started))
        try:
            yield span
        except Exception as error:
            record(span, error)
            raise
        finally:
            otel_context.detach(token)
            started.end()

    def _links(self, carriers: Iterable[Carrier]) -> list[otel.Link]:
        """Return a link to each different context, as many as a span may have."""
        found: dict[str, otel.Link] = {}
        for carrier in carriers:
            parent = carrier.get(trace.TRACEPARENT)
            if not isinstance(parent, str) or parent in found:
                continue
            if len(found) >= self._most_links:
                break
            context = _span_context(carrier)
            if context.is_valid:
                found[parent] = otel.Link(context)
        return list(found.values())

    def link_to(self, carrier: Carrier) -> None:
        """See ``Tracer``."""
        context = _span_context(carrier)
        if context.is_valid:
            otel.get_current_span().add_link(context)

    async def close(self, within: float) -> None:
        """See ``Tracer``. What is not sent by then is dropped."""
        loop = asyncio.get_running_loop()
        done = asyncio.Event()

        def shut_down() -> None:
            self._provider.shutdown()
            self._log.remove()
            with contextlib.suppress(RuntimeError):  # the loop is closed by now
                loop.call_soon_threadsafe(done.set)

        # Not in the executor of the loop, whose threads Python joins when it exits.
        threading.Thread(target=shut_down, name=f"{THREAD} shutdown", daemon=True).start()
        try:
            async with asyncio.timeout(within):
                await done.wait()
        except TimeoutError:
            log.warning("last spans not sent", extra={"seconds": within})
            self._exporter.shutdown()  # type: ignore[no-untyped-call] # ends the pause of a retry


class OtlpSpan:
    """A span in progress. See ``tracer.Span``."""

    def __init__(self, span: otel.Span) -> None:
        self._span = span

    def note(self, name: str, value: str | int) -> None:
        self._span.set_attribute(name, _bounded(value))

    def fail(self, kind: str, reason: str) -> None:
        words = _bounded(without_secrets(reason[: 16 * LONGEST]))
        self._span.set_attribute("error.type", _bounded(kind))
        self._span.set_status(otel.StatusCode.ERROR, str(words))

    def headers(self) -> Mapping[str, str]:
        return headers_of(self._span.get_span_context())


def _context(carrier: Carrier) -> otel_context.Context:
    return _propagator.extract(trace.trace_in(carrier), context=_NO_CONTEXT)


def _span_context(carrier: Carrier) -> otel.SpanContext:
    return otel.get_current_span(_context(carrier)).get_span_context()


def _bounded(value: str | int) -> str | int:
    return value[:LONGEST] if isinstance(value, str) else value


def _resource(service: str) -> Resource:
    """Return who sends the spans. ``OTEL_SERVICE_NAME`` and ``OTEL_RESOURCE_ATTRIBUTES`` win."""
    own = Resource(
        {
            "service.name": service,
            "service.version": _version(),
            "service.instance.id": str(uuid.uuid4()),
        }
    )
    given = Resource.create().attributes
    unknown = str(given.get("service.name", "")).startswith("unknown_service")
    named = {key: value for key, value in given.items() if key != "service.name" or not unknown}
    return own.merge(Resource(named))


def _most_links() -> int:
    if not os.environ.get(OTEL_SPAN_LINK_COUNT_LIMIT):
        return MAX_LINKS
    return SpanLimits().max_links or MAX_LINKS


def _version() -> str:
    try:
        return metadata.version("mediabus")
    except metadata.PackageNotFoundError:  # run from its sources
        return "0.0.0"


class _BoundedSession(requests.Session):
    """Reads little of an answer, and not for long: an endpoint may send without end."""

    def __init__(self) -> None:
        super().__init__()
        self.trust_env = False  # no password of .netrc, no proxy: as the SDK's own client

    def request(self, *args: Any, **kwargs: Any) -> requests.Response:  # noqa: ANN401
        """Send a request, and read at most ``MAX_ANSWER`` bytes of its answer."""
        deadline = time.monotonic() + (kwargs.get("timeout") or 10.0)
        response = super().request(*args, **{**kwargs, "stream": True})
        left = MAX_ANSWER
        with contextlib.closing(response):
            while left > 0 and time.monotonic() < deadline:
                part = response.raw.read1(left, decode_content=False)
                if not part:
                    break
                left -= len(part)
        response._content = b""  # noqa: SLF001 - requests has no other way to drop it
        return response


class _RareLog(logging.Handler):
    """Passes on what the SDK and its HTTP client log, once a minute at most."""

    SOURCES: Final = ("opentelemetry", "urllib3")

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self._logged_at = -LOG_EVERY
        self._unlogged = 0

    def install(self) -> None:
        """Take over the log lines of the SDK, and those of its thread."""
        for name in self.SOURCES:
            logging.getLogger(name).addHandler(self)
        for handler in logging.getLogger().handlers:
            handler.addFilter(_is_not_of_the_sdk)

    def remove(self) -> None:
        """Leave the log as it was."""
        for name in self.SOURCES:
            logging.getLogger(name).removeHandler(self)
        for handler in logging.getLogger().handlers:
            handler.removeFilter(_is_not_of_the_sdk)

    def emit(self, record: logging.LogRecord) -> None:
        """Log a record, unless there was one within the last minute."""
        if _is_not_of_the_sdk(record):
            return
        now = time.monotonic()
        if now - self._logged_at < LOG_EVERY:
            self._unlogged += 1
            return
        self._logged_at, unlogged, self._unlogged = now, self._unlogged, 0
        words = _PATH.sub("url", record.getMessage()[: 16 * LONGEST])
        reason = without_secrets(words)[:LONGEST]
        log.warning("spans not sent", extra={"reason": reason, "not_logged": unlogged})


def _is_not_of_the_sdk(record: logging.LogRecord) -> bool:
    """Return whether a record comes from elsewhere. Others may use urllib3, too."""
    if record.name.startswith("opentelemetry"):
        return False
    from_thread = (record.threadName or "").startswith(THREAD)
    return not (record.name.startswith("urllib3") and from_thread)
