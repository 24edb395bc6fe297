"""A receiver of spans that is missing, slow or hostile does not disturb the operations."""

import contextlib
import logging
import resource
import sys
import time
from collections.abc import AsyncIterator

import pytest

from mediabus.runtime import tracing
from mediabus.runtime.settings import Settings
from mediabus.wiring.registry import SERVICE
from tests.support.eventually import eventually
from tests.support.library import Library, library
from tests.support.otlp import Answer, Sink, endless, never, sink, status
from tests.support.ports import free_port

OPERATIONS = 60
STOPS_WITHIN = tracing.FLUSH_WITHIN + 6.0
"""Seconds, with time for a busy machine."""


@pytest.fixture(autouse=True)
def variables(monkeypatch: pytest.MonkeyPatch) -> None:
    """Send at once and often, and keep few spans."""
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "20")
    monkeypatch.setenv("OTEL_BSP_MAX_QUEUE_SIZE", "32")
    monkeypatch.setenv("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "8")


async def _operate(user: Library) -> None:
    for _ in range(OPERATIONS):
        await user.ask("media.list", timeout=10)


@contextlib.asynccontextmanager
async def _stopping_in_time() -> AsyncIterator[None]:
    async with contextlib.AsyncExitStack() as stack:
        await stack.enter_async_context(tracing.tracing("test"))
        assert tracing.is_on()
        yield
        began = time.monotonic()
    assert time.monotonic() - began < STOPS_WITHIN


@pytest.mark.parametrize(
    "answer",
    [status(500), status(503), status(401), status(302), never, endless],
    ids=["500", "503", "401", "redirect", "silent", "endless"],
)
async def test_operations_go_on_whatever_the_receiver_answers(
    settings: Settings,
    answer: Answer,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with sink(answer) as receiver, library(settings, [SERVICE]) as user:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", receiver.url)
        async with _stopping_in_time():
            await _operate(user)
            await eventually(lambda: receiver.requests, within=20)
            await _operate(user)
    assert _complaints(caplog) <= 1
    assert "hunter2" not in caplog.text


async def test_operations_go_on_without_a_receiver(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv(
        "OTEL_EXPORTER_OTLP_ENDPOINT", f"http://u:hunter2@127.0.0.1:{free_port()}/hunter2"
    )
    async with library(settings, [SERVICE]) as user, _stopping_in_time():
        await _operate(user)
        await eventually(lambda: _complaints(caplog), within=20)
        await _operate(user)
    assert _complaints(caplog) == 1
    [record] = [one for one in caplog.records if one.getMessage() == "spans not sent"]
    assert "refused" in vars(record)["reason"]
    assert "hunter2" not in repr(vars(record))


async def test_an_endless_answer_takes_no_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    async with sink(endless) as receiver:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", receiver.url)
        async with _stopping_in_time():
            before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            await eventually(lambda: _sent(receiver) >= 20, within=60)
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    assert grown < 50, f"{grown} MB"


def _sent(receiver: Sink) -> int:
    with tracing.query():
        return receiver.requests


async def test_the_last_spans_are_sent_when_the_process_stops(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "600000")
    async with sink() as receiver:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", receiver.url)
        async with _stopping_in_time():
            with tracing.query():
                pass
            assert not receiver.spans
        assert len(receiver.named("SELECT events")) == 1


async def test_standard_variables_are_honored(monkeypatch: pytest.MonkeyPatch) -> None:
    async with sink() as receiver:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", receiver.url)
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "x-key=hunter2")
        monkeypatch.setenv("OTEL_SERVICE_NAME", "library")
        monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=home")
        async with tracing.tracing("test"):
            with tracing.query():
                pass
            span = await receiver.span("SELECT events")
        monkeypatch.setenv("OTEL_TRACES_SAMPLER", "always_off")
        async with tracing.tracing("test"):
            with tracing.query():
                pass
    assert span.service == "library"
    assert span.resource["deployment.environment.name"] == "home"
    assert span.resource["service.version"]
    assert receiver.headers["x-key"] == "hunter2"
    assert len(receiver.spans) == 1


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("OTEL_BSP_MAX_QUEUE_SIZE", "-1"),
        ("OTEL_TRACES_SAMPLER", "magic"),
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "soon"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "nonsense"),
        ("OTEL_EXPORTER_OTLP_CERTIFICATE", "/no/such/file"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "===,,,="),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"),
        ("OTEL_SPAN_LINK_COUNT_LIMIT", "many"),
    ],
)
async def test_an_invalid_variable_stops_nothing(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str
) -> None:
    done = False
    async with sink() as receiver:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", receiver.url)
        monkeypatch.setenv(variable, value)
        async with tracing.tracing("test"):
            with tracing.query():
                done = True
    assert done


async def test_a_missing_extra_is_named_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:4318")
    monkeypatch.setitem(sys.modules, "opentelemetry", None)
    monkeypatch.delitem(sys.modules, "mediabus.runtime.otlp", raising=False)
    async with tracing.tracing("test"):
        assert not tracing.is_on()
        with tracing.query():
            pass
    [record] = [one for one in caplog.records if one.name == "mediabus.tracing"]
    assert record.levelno == logging.WARNING
    assert "install mediabus[otel]" in vars(record)["advice"]


def _complaints(caplog: pytest.LogCaptureFixture) -> int:
    """How often the log mentions spans, by mediabus or a library."""
    libraries = ("opentelemetry", "urllib3")
    return len(
        [
            one
            for one in caplog.records
            if one.getMessage() == "spans not sent" or one.name.startswith(libraries)
        ]
    )
