"""The trace of the calling code, for requests and events that it sends."""

import sys
from typing import Any

from mediabus.schemas import trace


def caller() -> dict[str, str]:
    """Return the trace of the calling code: its OpenTelemetry span, or the event it handles.

    Programs that use mediabus may trace themselves, with or without this module.
    """
    # None if the program does not use it; without the function while another thread imports it.
    current = getattr(sys.modules.get("opentelemetry.trace"), "get_current_span", None)
    if current is not None:
        context = current().get_span_context()
        if context.is_valid:
            return headers_of(context)
    return trace.current()


def headers_of(context: Any) -> dict[str, str]:  # noqa: ANN401 - opentelemetry may be missing
    """Return a span context of OpenTelemetry as headers of W3C Trace Context."""
    flags = context.trace_flags & 0xFF
    parent = f"00-{context.trace_id:032x}-{context.span_id:016x}-{flags:02x}"
    state = context.trace_state.to_header() if context.trace_state else ""
    return trace.trace_in({trace.TRACEPARENT: parent, trace.TRACESTATE: state})
