"""Valid CloudEvents through real servers: stream, table, history, replay and dead letters."""

import asyncio
import base64
import datetime
import functools
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from nats.aio.msg import Msg

from mediabus.consumers.daemon import delivery_of, handle_messages
from mediabus.consumers.dead_letters import DeadLetters
from mediabus.consumers.event_row import SELECTED, EventRow
from mediabus.consumers.history.query import serve_history
from mediabus.consumers.persister.store import EventStore
from mediabus.consumers.verdict import Rejected
from mediabus.runtime.nats.bus import Bus
from mediabus.runtime.postgres.database import Pool
from mediabus.runtime.settings import Settings
from mediabus.schemas import codec
from mediabus.schemas import dead_letter_headers as letter
from mediabus.schemas.events import MediaItemAdded
from mediabus.schemas.operations.requests import HistoryEvent, Page
from mediabus.schemas.subjects import EVENTS_STREAM, REPLAY_STREAM
from mediabus.service.operations.api import serve_operations
from mediabus.service.operations.open import open_operations
from tests.integration.test_persister import all_acknowledged, persisting
from tests.integration.test_replay import consuming
from tests.support.cloud_events import SPECIFICATION, any_event
from tests.support.commands import mediabus as command
from tests.support.eventually import eventually
from tests.support.history import mediabus, rows
from tests.support.stream import messages

SUBJECT = "events.other.com.example%2Esomeevent.-"
NOW = datetime.datetime.now(datetime.UTC)
TRACEPARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
EXACT = (
    b'{"type":"my.own", "specversion":"1.0","id":"exact-1","source":"/s",'
    b'"time":"%s","mine":7,"data":{"b":9007199254740993,"a":1e300,"aa":-0.0}}'
) % NOW.isoformat().encode()
BINARY = {
    "ce-specversion": "1.0",
    "CE-Id": "binary 1",
    "ce-source": "/b",
    "ce-type": "my.own",
    "ce-time": NOW.isoformat(),
    "ce-name": "Euro%20%E2%82%AC",
    "content-type": "application/avro",
}


async def history(bus: Bus, **request: object) -> list[HistoryEvent]:
    reply = await bus.nc.request("history.list", msgspec.json.encode(request), timeout=5)
    return msgspec.json.decode(reply.data, type=Page[HistoryEvent]).items


def is_near(one: datetime.datetime, other: datetime.datetime | None) -> bool:
    """Whether two readings of the stream's nanoseconds are the same moment."""
    return other is not None and abs(one - other) < datetime.timedelta(milliseconds=1)


async def say(bus: Bus, payload: bytes, headers: dict[str, str] | None = None) -> None:
    await bus.js.publish(SUBJECT, payload, headers=headers)


async def test_examples_of_the_specification_are_stored_as_published(bus: Bus, pool: Pool) -> None:
    async with persisting(bus, pool), serve_history(bus, pool):
        for document in SPECIFICATION.values():
            await say(bus, msgspec.json.encode(document))
        await all_acknowledged(bus)
        found = {event.published_id: event for event in await history(bus)}
    assert set(found) == {document["id"] for document in SPECIFICATION.values()}
    for document in SPECIFICATION.values():
        event = found[document["id"]]
        assert msgspec.json.decode(event.data) == document.get("data")
        assert event.data_base64 == document.get("data_base64")
        assert event.has_time == ("time" in document)
        extensions = {n: v for n, v in document.items() if n.startswith("comexample")}
        assert event.extensions == extensions
    assert found["B234-1234-1234"].content_type == "application/xml"
    assert found["D234-1234-1234"].content_type == "application/json"
    assert found["D234-1234-1235"].content_type is None


async def test_events_without_a_time_are_stored_once_with_stream_time(bus: Bus, pool: Pool) -> None:
    """Also when they are published again, in one batch or much later."""
    untimed = msgspec.json.encode(SPECIFICATION["no content type"])
    async with persisting(bus, pool, batch=2):
        for _ in range(5):
            await say(bus, untimed)
        await all_acknowledged(bus)
        await say(bus, untimed)
        await all_acknowledged(bus)
    [row] = await pool.fetch("SELECT occurred_at FROM events")
    stored_at = [message.time for message in await messages(bus)]
    assert any(is_near(row["occurred_at"], moment) for moment in stored_at)
    assert await DeadLetters(bus).all() == []


def _same(moment: datetime.datetime) -> datetime.datetime:
    return moment


async def test_two_persisters_store_an_event_without_a_time_once(pool: Pool) -> None:
    payload = msgspec.json.encode(SPECIFICATION["no content type"])
    copies = []
    for number in range(40):
        moment = NOW - datetime.timedelta(seconds=number)
        envelope, sent = codec.read(payload, published_at=functools.partial(_same, moment))
        copies.append(EventRow.of(envelope, number, sent))
    stores = [EventStore(pool) for _ in copies]
    outcomes = await asyncio.gather(
        *(store.store([one]) for store, one in zip(stores, copies, strict=True))
    )
    assert outcomes == [[None]] * len(copies)
    assert len(await rows(pool)) == 1
    assert await stores[0].missing(copies) == 0


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(document=any_event())
async def test_postgresql_returns_any_event_unchanged(pool: Pool, document: dict[str, Any]) -> None:
    """An event that PostgreSQL cannot keep is refused with its reason; none is changed."""
    payload = msgspec.json.encode(document)
    envelope, sent = codec.read(payload, published_at=lambda: NOW)
    [outcome] = await EventStore(pool).store([EventRow.of(envelope, 1, sent)])
    assert outcome is None
    record = await pool.fetchrow(
        f"SELECT {SELECTED} FROM events WHERE id = $1 AND source = $2",
        envelope.id,
        envelope.source,
    )
    assert record is not None
    row = EventRow.read(record)
    assert row.sent() == (payload, None)
    assert row.envelope() == envelope
    await pool.execute("DELETE FROM events WHERE id = $1", envelope.id)


@pytest.mark.parametrize("mode", ["base64", "no data"])
async def test_registered_types_without_json_in_data_are_stored(pool: Pool, mode: str) -> None:
    document = {"specversion": "1.0", "id": "1", "source": "/s", "type": "job.executed"}
    document |= {"datacontenttype": "application/json"}
    if mode == "base64":
        document["data_base64"] = base64.b64encode(b'{"job_name": "scan"}').decode()
    payload = msgspec.json.encode(document)
    if mode == "no data":
        with pytest.raises(codec.InvalidEvent, match="required field `job_name`"):
            codec.decode(payload)
        return
    envelope, sent = codec.read(payload, published_at=lambda: NOW)
    assert await EventStore(pool).store([EventRow.of(envelope, 1, sent)]) == [None]
    record = await pool.fetchrow(f"SELECT {SELECTED} FROM events")
    assert record is not None
    assert EventRow.read(record).envelope() == envelope


async def test_replay_gives_the_same_bytes_back_in_both_modes(
    settings: Settings, bus: Bus, pool: Pool
) -> None:
    untimed = msgspec.json.encode(SPECIFICATION["no content type"])
    took: list[Any] = []

    async def take(envelope: Any) -> None:
        took.append(envelope)

    async with persisting(bus, pool):
        await say(bus, EXACT)
        await say(bus, b"\x00\xffavro", BINARY)
        await say(bus, untimed)
        await all_acknowledged(bus)
    async with consuming(bus, "reader", take):
        await bus.js.update_stream(  # so that what the consumer has read is still there
            (await bus.js.stream_info(REPLAY_STREAM)).config.evolve(max_age=3600)
        )
        subscription = await bus.nc.subscribe("replay.reader.>")
        outcome = await mediabus(settings, "replay", "--since", "1h", "--to", "reader")
        assert outcome.code == 0, outcome
        await eventually(lambda: len(took) == 3, within=20)
        sent = [await subscription.next_msg(timeout=5) for _ in range(3)]
    by_body = {message.data: message for message in sent}
    assert set(by_body) == {EXACT, b"\x00\xffavro", untimed}
    assert _own(by_body[b"\x00\xffavro"]) == BINARY
    assert {one.published_id for one in took} == {"exact-1", "binary 1", "D234-1234-1235"}
    [stored] = await pool.fetch("SELECT occurred_at FROM events WHERE published_id LIKE 'D%'")
    assert {one.time for one in took if not one.has_time} == {stored["occurred_at"]}


def _own(message: Msg) -> dict[str, str]:
    headers = message.headers or {}
    return {n: v for n, v in headers.items() if not n.lower().startswith(("nats-", "mediabus-"))}


async def test_a_retried_dead_letter_has_the_same_bytes_in_both_modes(bus: Bus, pool: Pool) -> None:
    untimed = msgspec.json.encode(SPECIFICATION["no content type"])
    published = [(EXACT, {}), (b"\x00\xffavro", BINARY), (untimed, {})]
    for payload, headers in published:
        await say(bus, payload, headers or None)

    async def refuse(batch: Any) -> list[Exception]:
        return [Rejected("not now")] * len(batch)

    subscription = await bus.js.pull_subscribe("events.>", "fussy", stream=EVENTS_STREAM)
    fetched = await subscription.fetch(3, timeout=5)
    await handle_messages(bus, "fussy", refuse, fetched, decode=delivery_of)
    first = await messages(bus)
    letters = DeadLetters(bus)
    for one in await letters.all():
        await letters.retry(one.number)
    again = (await messages(bus))[3:]
    for old, new in zip(first, again, strict=True):
        assert new.data == old.data
        ours = {letter.TIME, "Nats-Msg-Id", "Nats-Expected-Stream"}
        assert {n: v for n, v in (new.headers or {}).items() if n not in ours} == (
            old.headers or {}
        )
    async with persisting(bus, pool):
        await all_acknowledged(bus)
    found = await pool.fetch("SELECT occurred_at, published_id FROM events")
    assert len(found) == 3
    times = {row["published_id"]: row["occurred_at"] for row in found}
    assert is_near(times["D234-1234-1235"], first[2].time)


@pytest.mark.parametrize(
    ("wanted", "ids"),
    [
        ({"mine": "7"}, {"exact-1"}),
        ({"mine": 7}, {"exact-1"}),
        ({"name": "Euro €"}, {"binary 1"}),
        ({"mine": 7, "name": "Euro €"}, set()),
        ({"mine": "8"}, set()),
        ({"no'); DROP TABLE events; --": "1"}, set()),
    ],
)
async def test_history_is_filtered_by_extension_attributes(
    bus: Bus, pool: Pool, wanted: dict[str, Any], ids: set[str]
) -> None:
    async with persisting(bus, pool), serve_history(bus, pool):
        await say(bus, EXACT)
        await say(bus, b"x", BINARY)
        await all_acknowledged(bus)
        assert {event.published_id for event in await history(bus, extensions=wanted)} == ids
        reply = await bus.nc.request(
            "history.count", msgspec.json.encode({"extensions": wanted}), timeout=5
        )
        assert msgspec.json.decode(reply.data)["total"] == len(ids)


async def test_the_command_line_shows_what_is_beyond_the_columns(
    settings: Settings, bus: Bus, pool: Pool
) -> None:
    claimed = {"actortype": "user", "actorid": "42", "actorverified": True}
    payload = msgspec.json.encode(SPECIFICATION["object"] | claimed)
    async with persisting(bus, pool), serve_history(bus, pool):
        await say(bus, payload)
        await say(bus, b"\x00", BINARY)
        await all_acknowledged(bus)
        wanted = ("--extension", "comexampleothervalue=5", "--json")
        found = await mediabus(settings, "history", *wanted)
        plain = await mediabus(settings, "history", "--type", "com.example.someevent")
        wrong = await mediabus(settings, "history", "--extension", "five")
        tail = await mediabus(settings, "tail", "--since", "1h", "--no-follow")
        tailed = await mediabus(settings, "tail", "--since", "1h", "--no-follow", "--json")
    [event] = [msgspec.json.decode(line) for line in found.out.splitlines()]
    assert event["published_id"] == "C234-1234-1234"
    assert event["extensions"] == {"comexampleextension1": "value", "comexampleothervalue": 5}
    assert event["actor_verified"] is False
    assert "by user:42 (claimed)" in plain.out
    assert "by user:42 (claimed)" in tail.out
    assert wrong.code == 2
    assert "is not NAME=VALUE" in wrong.err
    first, second = [msgspec.json.decode(line) for line in tailed.out.splitlines()]
    assert (first["id"], first["comexampleothervalue"]) == ("C234-1234-1234", 5)
    assert "actorverified" not in first
    assert (second["data_base64"], second["name"]) == (base64.b64encode(b"\0").decode(), "Euro €")


async def test_a_proven_actor_is_stored_and_shown_on_a_trusted_bus(bus: Bus, pool: Pool) -> None:
    payload = msgspec.json.encode(
        SPECIFICATION["object"] | {"actortype": "user", "actorid": "42", "actorverified": True}
    )
    bus.trusts_actors = True
    async with persisting(bus, pool), serve_history(bus, pool):
        await say(bus, payload)
        await all_acknowledged(bus)
        [event] = await history(bus)
    assert event.actor_verified
    assert [row["actor_verified"] for row in await rows(pool)] == [True]


async def test_the_trace_of_a_request_is_in_its_event(bus: Bus, pool: Pool) -> None:
    async with open_operations(pool, bus) as operations, serve_operations(bus, operations):
        headers = {"Traceparent": TRACEPARENT, "tracestate": "vendor=1"}
        for number, given in enumerate((headers, {}, {"traceparent": "00-0-0-0"})):
            body = {"type": "movie", "title": f"Film {number}", "year": 2000}
            reply = await bus.nc.request(
                "media.create", msgspec.json.encode(body), timeout=5, headers=given or None
            )
            assert "Nats-Service-Error" not in (reply.headers or {})
    payloads = [row["payload"] for row in await pool.fetch("SELECT payload FROM outbox")]
    traces = {}
    for payload in payloads:
        envelope, sent = codec.read(payload)
        assert sent is None
        assert isinstance(envelope.event, MediaItemAdded)
        traces[envelope.event.title] = envelope.extensions
    expected = {"traceparent": TRACEPARENT, "tracestate": "vendor=1"}
    assert traces == {"Film 0": expected, "Film 1": {}, "Film 2": {}}


async def test_publish_refuses_a_registered_type_in_another_category() -> None:
    data = ("--data", '{"job_name": "x"}', "--category", "media")
    outcome = await command("publish", "job.executed", *data)
    assert outcome.code != 0
    assert "belongs to the category system, not media" in outcome.err
