"""W3C Trace Context: the trace that a request belongs to, carried into the events it causes.

``traceparent`` and ``tracestate`` are the extension attributes of CloudEvents' Distributed Tracing.
"""

import contextlib
import contextvars
import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

TRACEPARENT: Final = "traceparent"
TRACESTATE: Final = "tracestate"
LONGEST_PARENT: Final = 512
LONGEST_STATE: Final = 8192
"""Characters; the recommendation asks to hand on 512 of ``tracestate`` at least."""

_FORM: Final = re.compile(
    r"[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}(?:-[!-~]*)?"
)
"""Section 3.2: version, trace id, parent id and flags; ids of zeros are invalid."""

_CURRENT: Final[contextvars.ContextVar[Mapping[str, str] | None]] = contextvars.ContextVar(
    "trace", default=None
)


def trace_in(headers: Mapping[str, Any]) -> dict[str, str]:
    """Return the trace in headers, as attributes of an event. Their names are in lower case.

    ``headers`` may also be the extensions of an event, whose values have any type.

    An invalid trace is ignored, as the recommendation requires: the request is still valid.
    """
    parent, state = headers.get(TRACEPARENT, ""), headers.get(TRACESTATE, "")
    if not isinstance(parent, str) or not parent or not _is_valid(parent):
        return {}
    if _is_state(state):
        return {TRACEPARENT: parent, TRACESTATE: state}
    return {TRACEPARENT: parent}


def _is_state(state: object) -> bool:
    return (
        isinstance(state, str)
        and 0 < len(state) <= LONGEST_STATE
        and state.isprintable()
        and state.isascii()
    )


def _is_valid(parent: str) -> bool:
    version, *rest = parent.split("-")
    if version == "ff" or (
        version == "00" and len(rest) != 3
    ):  # later versions may have more parts
        return False
    return len(parent) <= LONGEST_PARENT and bool(_FORM.fullmatch(parent))


@contextlib.contextmanager
def carrying(headers: Mapping[str, Any]) -> Iterator[None]:
    """Add the trace in headers to each envelope that this task creates within the context."""
    token = _CURRENT.set(trace_in(headers))
    try:
        yield
    finally:
        _CURRENT.reset(token)


def current() -> dict[str, Any]:
    """Return the attributes of the current trace; none if there is no trace."""
    return dict(_CURRENT.get() or {})
