"""A request, its event, its batches and its notification are one trace, over all processes."""

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from mediabus.runtime.nats.bus import connect
from mediabus.runtime.postgres.database import open_pool
from mediabus.runtime.settings import IngestSettings, NotifierSettings, Settings
from tests.support.eventually import eventually
from tests.support.http_in import send
from tests.support.library import Library
from tests.support.otlp import Context, Sink, Span, sink
from tests.support.processes import Name, Process, processes
from tests.support.receiver import Receiver, receiving

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
CALLER = Context.of(PARENT)
NAMES: tuple[Name, ...] = ("service", "persist", "notify")
TOKEN = "0123456789abcdef-hunter2"
MOVIE = {"type": "movie", "title": "A very secret title", "year": 2021}
EXTENSIONS = "SELECT extensions FROM events WHERE resource_id = $1"


@contextlib.asynccontextmanager
async def running(settings: Settings, directory: Path) -> AsyncIterator[tuple[Library, int]]:
    """Three processes, and a user of them. Yields the port of the service, too."""
    with processes(settings, directory, *NAMES) as started:
        async with (
            connect(settings.nats, name="user", wait=10) as bus,
            open_pool(settings.database, size=1) as pool,
        ):
            yield Library(bus.nc, pool), started[0].port
            for process in started:
                assert process.stop() == 0


def notifying(settings: Settings, receiver: Receiver) -> Settings:
    target = {"name": "hook", "webhook": receiver.url, "events": ["media_item.*"]}
    return msgspec.structs.replace(
        settings,
        notify=[target],
        notifier=NotifierSettings(allowed_hosts=["127.0.0.1"]),
        ingest=IngestSettings(token=TOKEN),
    )


async def extensions_of(user: Library, resource: str) -> dict[str, Any]:
    return await eventually(lambda: user.pool.fetchval(EXTENSIONS, resource), within=20)


async def test_a_request_is_one_trace_through_all_processes(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "100")
    async with sink() as spans, receiving() as receiver:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", spans.url)
        async with running(notifying(settings, receiver), tmp_path) as (user, port):
            headers = {"traceparent": PARENT, "tracestate": "vendor=1"}
            item = await user.ask("media.create", MOVIE, headers=headers)
            extensions = await extensions_of(user, item["id"])
            await has_one_trace(spans, extensions)
            await a_request_without_a_trace_starts_one(spans, user)
            await a_query_is_a_child_of_its_operation(spans, user)
            await an_event_over_http_is_linked(spans, user, port)
    assert {span.service for span in spans.spans} == {f"mediabus-{name}" for name in NAMES}
    assert "secret" not in repr(spans.spans)
    assert "hunter2" not in repr(spans.spans)
    assert receiver.accepted[0].events[0]["traceparent"] == extensions["traceparent"]


async def has_one_trace(spans: Sink, extensions: dict[str, Any]) -> None:
    created = await spans.span("process media.create")
    assert (created.kind, created.service) == ("server", "mediabus-service")
    assert (created.context.trace_id, created.parent) == CALLER
    assert created.attributes["messaging.system"] == "nats"
    assert created.attributes["messaging.destination.name"] == "media.create"
    assert Context.of(extensions["traceparent"]) == created.context
    assert extensions["tracestate"] == "vendor=1"

    def is_linked(span: Span) -> bool:
        return created.context in span.links

    published = await spans.span("publish EVENTS", where=is_linked)
    assert (published.kind, published.service) == ("client", "mediabus-service")
    assert published.attributes["messaging.operation.type"] == "send"
    stored = await spans.span("process EVENTS", where=is_linked)
    assert (stored.kind, stored.service) == ("consumer", "mediabus-persist")
    assert stored.attributes["messaging.consumer.group.name"] == "persister"
    notified = await spans.span("notify hook")
    assert notified.service == "mediabus-notify"
    assert (notified.context.trace_id, notified.parent) == created.context


async def a_request_without_a_trace_starts_one(spans: Sink, user: Library) -> None:
    item = await user.ask("media.create", {**MOVIE, "year": 2022})
    extensions = await extensions_of(user, item["id"])
    context = Context.of(extensions["traceparent"])
    created = await spans.span("process media.create", where=lambda span: span.context == context)
    assert created.parent == ""
    assert created.context.trace_id != CALLER.trace_id


async def a_query_is_a_child_of_its_operation(spans: Sink, user: Library) -> None:
    await user.ask("history.list", {"limit": 3}, headers={"traceparent": PARENT})
    asked = await spans.span("process history.list")
    assert (asked.context.trace_id, asked.parent) == CALLER
    query = await spans.span(
        "SELECT events", where=lambda span: (span.context.trace_id, span.parent) == asked.context
    )
    assert query.attributes["db.system.name"] == "postgresql"


async def an_event_over_http_is_linked(spans: Sink, user: Library, port: int) -> None:
    url = f"http://127.0.0.1:{port}/events?access_token={TOKEN}"
    given = PARENT.replace("b7ad6b7169203331", "b7ad6b7169203332")
    event = {
        "specversion": "1.0",
        "id": "1",
        "source": "a",
        "type": "thing.seen",
        "subject": "thing/7",
        "traceparent": given,
        "data": {},
    }
    kind = {"Content-Type": "application/cloudevents+json"}
    assert (await send(url, event, Traceparent=PARENT, **kind)).status == 200
    received = await spans.span("POST /events")
    assert (received.context.trace_id, received.parent) == CALLER
    assert received.links == {Context.of(given)}
    assert (await extensions_of(user, "7"))["traceparent"] == given
    linked = await spans.span("process EVENTS", where=lambda span: Context.of(given) in span.links)
    assert linked.service == "mediabus-persist"


@pytest.mark.parametrize("on", [False, True], ids=["off", "on"])
async def test_only_a_process_that_traces_imports_opentelemetry(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, on: bool
) -> None:
    monkeypatch.setenv("PYTHONPROFILEIMPORTTIME", "1")  # each import is a line of the log
    monkeypatch.delenv("OTEL_EXPORTER_OTLP_ENDPOINT", raising=False)
    async with sink() as spans, receiving() as receiver:
        if on:
            monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", spans.url)
        names: tuple[Name, ...] = ("persist",) if on else (*NAMES, "monitor", "web")
        with processes(notifying(settings, receiver), tmp_path, *names) as started:
            imports = [imported_by(process) for process in started]
    for names_of in imports:
        assert "mediabus.runtime.tracing" in names_of
        assert ("opentelemetry" in {name.partition(".")[0] for name in names_of}) is on
    assert bool(spans.requests) <= on


def imported_by(process: Process) -> set[str]:
    lines = process.log.read_text(errors="replace").splitlines()
    return {line.rpartition("|")[2].strip() for line in lines if line.startswith("import time:")}
