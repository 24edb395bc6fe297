"""Tracing is off unless it is asked for, and then costs and imports nothing."""

import subprocess
import sys

import pytest

from mediabus.runtime import tracing
from mediabus.schemas import trace
from mediabus.schemas.envelope import Envelope
from mediabus.schemas.events import JobExecuted
from mediabus.schemas.identity import Actor

ENDPOINT = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4318"}
PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"

IMPORT_ALL = """
import importlib, pkgutil, sys
import mediabus
for module in pkgutil.walk_packages(mediabus.__path__, "mediabus."):
    if module.name not in {"mediabus.runtime.otlp", "mediabus.main.__main__"}:
        importlib.import_module(module.name)
assert {"mediabus.runtime.tracing", "mediabus.service.operations.api"} <= sys.modules.keys()
print(*(name for name in sys.modules if name.partition(".")[0] == "opentelemetry"))
"""


@pytest.mark.parametrize(
    ("variables", "wanted"),
    [
        ({}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": " "}, False),
        ({"OTEL_SERVICE_NAME": "library"}, False),
        (ENDPOINT, True),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://127.0.0.1:4318/v1/traces"}, True),
        ({**ENDPOINT, "OTEL_SDK_DISABLED": "true"}, False),
        ({**ENDPOINT, "OTEL_SDK_DISABLED": "false"}, True),
        ({**ENDPOINT, "OTEL_TRACES_EXPORTER": "none"}, False),
        ({**ENDPOINT, "OTEL_TRACES_EXPORTER": "otlp"}, True),
    ],
)
def test_an_endpoint_switches_tracing_on(variables: dict[str, str], wanted: bool) -> None:
    assert tracing.is_wanted(variables) is wanted


def test_no_module_imports_opentelemetry_by_itself() -> None:
    command = [sys.executable, "-c", IMPORT_ALL]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.strip()) == (0, ""), done.stderr


def test_without_tracing_an_event_carries_the_trace_of_its_request() -> None:
    with tracing.operation("media.create", {"traceparent": PARENT}):
        envelope = Envelope.of(JobExecuted(job_name="a"), actor=Actor("job", "a"))
    assert envelope.extensions == {"traceparent": PARENT}


def test_without_tracing_no_span_reads_the_events_of_its_batch() -> None:
    def unread() -> list[dict[str, str]]:
        raise AssertionError

    with tracing.publish(unread, 3) as span:
        span.note("a", 1)
        span.fail("a", "b")
    assert not tracing.is_on()


@pytest.mark.parametrize("value", [7, True, None, ["a"], {"a": "b"}])
def test_extensions_of_any_type_are_no_trace(value: object) -> None:
    assert trace.trace_in({"traceparent": value}) == {}
    found = trace.trace_in({"traceparent": PARENT, "tracestate": value})
    assert found == {"traceparent": PARENT}
