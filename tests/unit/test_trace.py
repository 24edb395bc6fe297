"""Which trace contexts are carried: those that W3C's recommendation calls valid."""

import pytest

from mediabus.runtime.api.requests import known_headers
from mediabus.schemas import trace
from mediabus.schemas.envelope import Envelope
from mediabus.schemas.events import JobExecuted
from mediabus.schemas.identity import Actor

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
VALID = f"00-{TRACE}-{SPAN}-01"


@pytest.mark.parametrize("parent", [VALID, f"01-{TRACE}-{SPAN}-00-what-comes-later"])
def test_a_valid_parent_is_carried(parent: str) -> None:
    headers = known_headers({"TraceParent": parent})
    assert trace.trace_in(headers) == {"traceparent": parent}


@pytest.mark.parametrize(
    "parent",
    [
        "",
        "00",
        f"ff-{TRACE}-{SPAN}-01",
        f"00-{TRACE}-{SPAN}-01-more",
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE.upper()}-{SPAN}-01",
        f"00-{TRACE}-{SPAN}-0",
        f"{VALID}\n",
        f"01-{TRACE}-{SPAN}-01-{'x' * 500}",
    ],
)
def test_an_invalid_parent_is_left_out_with_its_state(parent: str) -> None:
    assert trace.trace_in({"traceparent": parent, "tracestate": "a=1"}) == {}


@pytest.mark.parametrize("state", ["", "a=\0", "ü=1", "a" * 8193])
def test_an_unusable_state_is_left_out_alone(state: str) -> None:
    headers = {"traceparent": VALID, "tracestate": state}
    assert trace.trace_in(headers) == {"traceparent": VALID}


def test_only_events_created_inside_belong_to_the_trace() -> None:
    actor = Actor("job", "nightly")
    with trace.carrying({"traceparent": VALID, "tracestate": "a=1"}):
        within = Envelope.of(JobExecuted(job_name="x"), actor=actor)
    after = Envelope.of(JobExecuted(job_name="x"), actor=actor)
    assert within.extensions == {"traceparent": VALID, "tracestate": "a=1"}
    assert after.extensions == {}
