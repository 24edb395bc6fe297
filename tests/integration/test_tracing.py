"""What a process sends about its work, and that nothing the receiver does disturbs that work."""

import asyncio
from collections.abc import AsyncIterator

import msgspec
import pytest
from aiohttp import web
from nats.js.api import StreamConfig
from opentelemetry import propagate, trace

import mediabus
from mediabus.consumers.consume import consume
from mediabus.consumers.persister.run import persist
from mediabus.runtime import otlp, tracing
from mediabus.runtime.nats.bus import Bus, PublishFailed, connect
from mediabus.runtime.nats.streams import ensure_streams
from mediabus.runtime.postgres.database import Pool
from mediabus.runtime.settings import NatsSettings, PersisterSettings, Settings
from mediabus.schemas.envelope import Envelope
from mediabus.schemas.events import JobExecuted, JobFailed
from mediabus.schemas.identity import Actor, Resource
from mediabus.service.ingest.http.cloud_events import CloudEvents
from mediabus.service.outbox.outbox import open_outbox
from mediabus.service.outbox.relay import Relay
from tests.support.eventually import eventually
from tests.support.http_in import send, serving_endpoint
from tests.support.library import Library, Refused, library
from tests.support.monitored import monitored
from tests.support.notifying import config_of, events_in, notifying
from tests.support.otlp import Context, Sink, sink
from tests.support.receiver import receiving
from tests.support.receiver import status as answers_with
from tests.support.scripted import scripted
from tests.support.servers import NatsServer

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
UNSAMPLED = PARENT.removesuffix("01") + "00"
TRACE = Context.of(PARENT)
MOVIE = {"type": "movie", "title": "Dune", "year": 2021}
EXTENSIONS = "SELECT extensions->>'traceparent' FROM events WHERE resource_id = $1"


@pytest.fixture(autouse=True)
def variables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "50")


@pytest.fixture
async def received(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Sink]:
    """The spans of this process."""
    async with sink() as running:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", running.url)
        async with tracing.tracing("test"):
            assert tracing.is_on()
            yield running


async def _event(user: Library, item: str) -> str:
    async def stored() -> str:
        return str(await user.pool.fetchval(EXTENSIONS, item) or "")

    return await eventually(stored, within=20)


async def test_a_refused_operation_has_its_reason(received: Sink, settings: Settings) -> None:
    async with library(settings) as user:
        with pytest.raises(Refused):
            await user.ask("media.get", {"id": "01a20362-8ad5-7edb-ab30-b204b10c0f03"})
        span = await received.span("process media.get")
    assert (span.attributes["error.type"], span.attributes["mediabus.error.code"]) == (
        "unknown_media_item",
        404,
    )
    assert not span.has_failed  # the caller is wrong, not the service


async def test_a_failed_operation_is_an_error(
    received: Sink, settings: Settings, pool: Pool
) -> None:
    async with library(settings) as user:
        await pool.execute("ALTER TABLE media_items RENAME TO gone")
        with pytest.raises(Refused):
            await user.ask("media.list")
        span = await received.span("process media.list", where=lambda span: span.has_failed)
    assert span.attributes["error.type"] == "internal"


async def test_the_sampling_of_the_caller_is_respected(received: Sink, settings: Settings) -> None:
    async with library(settings) as user:
        item = await user.ask("media.create", MOVIE, headers={"traceparent": UNSAMPLED})
        carried = await _event(user, item["id"])
        await user.ask("media.get", {"id": item["id"]}, headers={"traceparent": PARENT})
        await received.span("process media.get")
    assert (carried[:36], carried[-3:]) == (UNSAMPLED[:36], "-00")
    assert received.named("process media.create") == []


async def test_polls_and_changes_of_a_client_are_spans(
    received: Sink, pool: Pool, bus: Bus
) -> None:
    script, client = scripted()
    script.show("a", "downloading")
    async with monitored(pool, bus, client):
        poll = await received.span("poll script")
        created = await received.span("create download.discovered")
        payload = await pool.fetchval("SELECT payload FROM outbox ORDER BY position LIMIT 1")
        script.away_for = 1
        failed = await received.span("poll script", where=lambda span: span.has_failed)
    assert (poll.kind, poll.parent, poll.has_failed) == ("client", "", False)
    assert poll.attributes == {"mediabus.client": "script", "mediabus.client.kind": "scripted"}
    assert created.kind == "producer"
    assert Context.of(msgspec.json.decode(payload)["traceparent"]) == created.context
    assert failed.attributes["mediabus.client.reason"] == "connection"


async def test_an_error_is_recorded_without_its_secrets(received: Sink) -> None:
    with pytest.raises(ValueError, match="hunter2"), tracing.query():
        raise ValueError(
            "postgresql://user:hunter2@db.example/x failed, apikey=hunter2 " + "a" * 999
        )
    span = await received.span("SELECT events")
    assert span.has_failed
    assert "db.example" in span.reason
    assert "hunter2" not in repr(span)
    assert len(span.reason) == otlp.LONGEST
    assert span.attributes["error.type"] == "ValueError"


async def test_a_try_to_notify_continues_the_trace_of_its_event(received: Sink, bus: Bus) -> None:
    async with receiving() as receiver:
        receiver.answers = [answers_with(500, text="password=hunter2")]
        target = {"name": "hook", "webhook": receiver.url, "events": ["job.*"]}
        async with notifying(bus, config_of(target)):
            envelope = Envelope.of(JobExecuted(job_name="a"), actor=Actor("job", "a"))
            traced = msgspec.structs.replace(envelope, extensions={"traceparent": PARENT})
            await bus.publish_envelope(traced)
            failed = await received.span("notify hook", where=lambda span: span.has_failed)
            done = await received.span("notify hook", where=lambda span: not span.has_failed)
    for span in (failed, done):
        assert (span.context.trace_id, span.parent) == TRACE
        assert span.attributes["messaging.consumer.group.name"] == "notify-hook"
    assert "HTTP 500" in failed.reason
    assert "hunter2" not in repr(received.spans)


async def test_a_message_about_several_events_has_links(received: Sink, bus: Bus) -> None:
    async with receiving() as receiver:
        target = {
            "name": "hook",
            "webhook": receiver.url,
            "events": ["job.*"],
            "digest": "1s",
        }
        async with notifying(bus, config_of(target)):
            parents = [PARENT, PARENT.replace("b7ad6b7169203331", "b7ad6b7169203332")]
            for parent in parents:
                envelope = Envelope.of(
                    JobExecuted(job_name="a"), actor=Actor("job", "a"), resource=Resource("a", "b")
                )
                traced = msgspec.structs.replace(envelope, extensions={"traceparent": parent})
                await bus.publish_envelope(traced)
            span = await received.span("notify hook")
    assert span.links == {Context.of(parent) for parent in parents}
    assert span.parent == ""


async def test_a_request_over_http_is_a_span(received: Sink) -> None:
    async def refuse(_: object) -> web.Response:
        return web.Response(status=503, body=b"{}")

    async with serving_endpoint(tracing.http_handler("/hooks/{app}", refuse)) as url:
        await send(f"{url}/hooks/sonarr/hunter2?access_token=hunter2", {}, Traceparent=PARENT)
        span = await received.span("POST /hooks/{app}")
    assert span.kind == "server"
    assert (span.context.trace_id, span.parent) == TRACE
    assert span.attributes["http.response.status_code"] == 503
    assert span.has_failed
    assert "hunter2" not in repr(received.spans)


async def test_a_published_cloud_event_is_linked(received: Sink, bus: Bus) -> None:
    event = {"specversion": "1.0", "id": "1", "source": "a", "type": "b.c", "traceparent": PARENT}
    endpoint = CloudEvents(bus, "0123456789abcdef")
    async with serving_endpoint(tracing.http_handler("/events", endpoint.receive)) as url:
        headers = {"Content-Type": "application/cloudevents+json"}
        reply = await send(url, event, Authorization="Bearer 0123456789abcdef", **headers)
        span = await received.span("POST /events")
    assert reply.status == 200
    assert span.links == {TRACE}


@pytest.mark.parametrize(("variable", "most"), [("", otlp.MAX_LINKS), ("50", 50)])
async def test_links_and_attributes_are_bounded(
    monkeypatch: pytest.MonkeyPatch, variable: str, most: int
) -> None:
    parents = [f"00-{TRACE.trace_id}-{number:016x}-01" for number in range(1, 1001)]
    batch = [{"traceparent": parent} for parent in [*parents[:1], *parents, "x" * 100_000]]
    monkeypatch.setenv("OTEL_SPAN_LINK_COUNT_LIMIT", variable)
    async with sink() as received:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", received.url)
        async with tracing.tracing("test"):
            with tracing.process("c" * 1000, batch, len(batch)):
                pass
        span = await received.span("process EVENTS")
    assert span.links == {Context.of(parent) for parent in parents[:most]}
    assert span.attributes["messaging.batch.message_count"] == 1002
    assert span.attributes["messaging.consumer.group.name"] == "c" * otlp.LONGEST


async def test_a_handler_continues_the_trace_of_its_event(bus: Bus, nats_url: str) -> None:
    """Without tracing in the process, and without OpenTelemetry."""
    settings = NatsSettings(url=nats_url)

    async def handle(envelope: Envelope) -> None:
        if envelope.type == "job.executed":
            async with mediabus.connect(nats_url, actor=Actor("job", "next")) as own:
                await own.publish(JobFailed(job_name="next"))

    envelope = Envelope.of(JobExecuted(job_name="a"), actor=Actor("job", "a"))
    await bus.publish_envelope(
        msgspec.structs.replace(envelope, extensions={"traceparent": PARENT})
    )
    consuming = asyncio.create_task(consume("a", handle, from_start=True, settings=settings))
    try:
        [caused] = await eventually(lambda: events_in(bus, "job.failed"))
    finally:
        consuming.cancel()
        await asyncio.wait([consuming])
    assert caused.extensions == {"traceparent": PARENT}


async def test_a_program_that_traces_is_the_parent_of_its_requests(
    received: Sink, settings: Settings
) -> None:
    async with (
        library(settings),
        mediabus.connect(settings.nats.url, actor=Actor("user", "42")) as program,
    ):
        with tracing.query():  # any span of the program
            item = await program.media.create(title="Dune", year=2021)
            published = await program.publish(JobExecuted(job_name="a"))
        await program.media.get(item.id)
        own = await received.span("SELECT events")
        created = await received.span("process media.create")
        read = await received.span("process media.get")
    assert (created.context.trace_id, created.parent) == own.context
    assert Context.of(published.extensions["traceparent"]) == own.context
    assert read.parent == ""


async def test_events_that_are_not_stored_are_counted(received: Sink, pool: Pool, bus: Bus) -> None:
    envelope = Envelope.of(JobExecuted(job_name="a"), actor=Actor("job", "a"))
    old = msgspec.structs.replace(envelope, time=envelope.time.replace(year=1999))
    persisting = asyncio.create_task(persist(bus, pool, PersisterSettings()))
    try:
        await bus.publish_envelope(old)
        span = await received.span("process EVENTS", where=lambda span: span.has_failed)
    finally:
        persisting.cancel()
        await asyncio.wait([persisting])
    assert span.attributes["mediabus.events.not_stored"] == 1
    assert (span.attributes["error.type"], span.reason) == ("Rejected", "1 of 1 not stored")


async def test_a_batch_that_nats_does_not_store_has_failed(
    received: Sink, pool: Pool, nats: NatsServer
) -> None:
    settings = NatsSettings(url=nats.url)
    async with (
        connect(settings, name="relay", wait=10) as relaying,
        open_outbox(pool, relaying) as outbox,
    ):
        await ensure_streams(relaying, settings)
        relay = Relay(pool, relaying, confirm_in_events=False)
        await relay.cursor.load()
        await relay.relay_batch()
        async with outbox.transaction() as work:
            await work.record(Envelope.of(JobExecuted(job_name="a"), actor=Actor("job", "a")))
        await relaying.js.update_stream(StreamConfig(name="EVENTS", sealed=True))
        with pytest.raises(PublishFailed):
            await relay.relay_batch()
        span = await received.span("publish EVENTS")
    assert span.has_failed
    assert span.attributes["error.type"] == "PublishFailed"
    assert span.attributes["messaging.batch.message_count"] == 1


async def test_a_handler_can_continue_the_trace_in_a_span_of_its_own() -> None:
    """As docs/tracing.md shows."""
    envelope = Envelope.of(JobExecuted(job_name="a"), actor=Actor("job", "a"))
    traced = msgspec.structs.replace(envelope, extensions={"traceparent": PARENT})
    context = propagate.extract(traced.extensions)
    assert trace.get_current_span(context).get_span_context() == trace.SpanContext(
        int(TRACE.trace_id, 16),
        int(TRACE.span_id, 16),
        is_remote=True,
        trace_flags=trace.TraceFlags(trace.TraceFlags.SAMPLED),
    )
