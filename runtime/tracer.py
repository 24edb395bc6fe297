"""The port behind ``tracing.py``: spans, and what makes them."""

import contextlib
from collections.abc import Iterable, Mapping
from typing import Any, Final, Literal, Protocol

from mediabus.runtime.api.requests import OperationError
from mediabus.schemas import trace

Kind = Literal["server", "client", "consumer", "producer"]
Attributes = Mapping[str, str | int]
Carrier = Mapping[str, Any]
"""What may hold ``traceparent`` and ``tracestate``: headers, or the extensions of an event."""


class Span(Protocol):
    """A span in progress."""

    def note(self, name: str, value: str | int) -> None:
        """Set an attribute."""

    def fail(self, kind: str, reason: str) -> None:
        """Mark the span as failed. ``kind`` is one of few values, ``reason`` is for people."""

    def headers(self) -> Mapping[str, str]:
        """Return the context of the span as ``traceparent`` and ``tracestate``."""


class Tracer(Protocol):
    """Makes spans."""

    def span(
        self,
        name: str,
        kind: Kind,
        attributes: Attributes,
        *,
        parent: Carrier | None = None,
        links: Iterable[Carrier] = (),
    ) -> contextlib.AbstractContextManager[Span]:
        """Open a span. An exception fails it.

        Without ``parent`` it is a child of the current span; an empty ``parent`` starts a trace.
        """

    def link_to(self, carrier: Carrier) -> None:
        """Link the current span to another one."""

    async def close(self, within: float) -> None:
        """Send what is left, for at most ``within`` seconds."""


class Off(contextlib.AbstractContextManager[Span]):
    """The span of a process that does not trace, and its own context manager."""

    def __enter__(self) -> Span:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def note(self, name: str, value: str | int) -> None:
        pass

    def fail(self, kind: str, reason: str) -> None:
        pass

    def headers(self) -> Mapping[str, str]:
        return trace.current()


OFF: Final = Off()


def record(span: Span, error: Exception) -> None:
    """Record the exception that ends a span. A refused request is a failure of its caller."""
    if not isinstance(error, OperationError):
        span.fail(type(error).__name__, str(error))
        return
    problem = error.problem
    span.note("mediabus.error.code", problem.code)
    span.note("error.type", problem.reason)
    if problem.code >= 500:
        span.fail(problem.reason, problem.message)
