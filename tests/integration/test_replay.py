"""Replay: the history made whole from the stream, and old events fed to one consumer."""

import asyncio
import contextlib
import datetime
import re
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import msgspec
import pytest
from nats.js.api import StreamInfo

from mediabus.api.stream import read_stream
from mediabus.commands import replay as replaying
from mediabus.commands.context import Face
from mediabus.commands.errors import Unanswered
from mediabus.consumers.consume import consume
from mediabus.consumers.dead_letters import DeadLetters
from mediabus.consumers.event_row import EventRow
from mediabus.consumers.history.archive import Span, count, pages
from mediabus.consumers.persister.store import EventStore
from mediabus.consumers.verdict import Rejected
from mediabus.runtime.nats.bus import Bus, PublishFailed
from mediabus.runtime.postgres.database import Pool
from mediabus.runtime.settings import NatsSettings, Settings
from mediabus.schemas import codec
from mediabus.schemas.envelope import Envelope
from mediabus.schemas.subjects import (
    DEAD_LETTERS_STREAM,
    EVENTS_STREAM,
    EVENTS_SUBJECTS,
    REPLAY_STREAM,
)
from mediabus.service.outbox.publish import publish_all
from tests.support.eventually import eventually
from tests.support.history import mediabus, rows
from tests.support.nobody import nobody
from tests.support.ports import free_port
from tests.support.stream import event

HOUR = datetime.timedelta(hours=1)
NOW = datetime.datetime.now(datetime.UTC)
EVER = Span(NOW - 1000 * HOUR, NOW + HOUR)

Handle = Callable[[Envelope], Awaitable[None]]


def at(name: str, hours_ago: float) -> Envelope:
    return msgspec.structs.replace(event(name), time=NOW - hours_ago * HOUR)


def name_of(envelope: Envelope) -> str:
    return str(envelope.fields()["job_name"])


def _url_of(bus: Bus) -> str:
    assert bus.nc.connected_url
    return str(bus.nc.connected_url.geturl())


@contextlib.asynccontextmanager
async def consuming(bus: Bus, name: str, handle: Handle) -> AsyncIterator[None]:
    """A running consumer, ready for replayed events."""
    task = asyncio.create_task(consume(name, handle, settings=NatsSettings(url=_url_of(bus))))

    async def is_there() -> bool:
        return any(one.name == name for one in await bus.js.consumers_info(REPLAY_STREAM))

    try:
        await eventually(is_there)
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])


class Notebook:
    """Takes every event, and remembers them in their order."""

    def __init__(self) -> None:
        self.took: list[Envelope] = []

    async def __call__(self, envelope: Envelope) -> None:
        self.took.append(envelope)

    @property
    def names(self) -> list[str]:
        return [name_of(envelope) for envelope in self.took]


async def test_a_replay_stores_missing_events_once(
    settings: Settings, pool: Pool, bus: Bus
) -> None:
    for one in (at("long ago", 100), at("one", 3), at("two", 2), at("other", 1)):
        await bus.publish_envelope(one)
    await bus.js.publish("events.a.b.c.-", b"nonsense")
    await bus.publish_envelope(at("of the future", -1000))
    before = await mediabus(settings, "replay", "--since", "10h", "--dry-run")
    assert before.out == "3 events in the stream, 3 of them missing in the history\n"
    assert await rows(pool) == []

    first = await mediabus(settings, "replay", "--since", "10h")
    assert first.out == "3 events in the stream, 3 missing ones stored\n"
    stored = await rows(pool)
    assert [row["data"]["job_name"] for row in stored] == ["one", "two", "other"]
    await pool.execute("DELETE FROM events WHERE data ->> 'job_name' = 'two'")
    second = await mediabus(settings, "replay", "--since", "10h")
    assert second.out == "3 events in the stream, 1 missing ones stored\n"
    third = await mediabus(settings, "replay", "--since", "10h")
    assert third.out == "3 events in the stream, 0 missing ones stored\n"
    assert await rows(pool) == stored


async def test_a_replay_is_of_a_span_and_of_a_type(
    settings: Settings, pool: Pool, bus: Bus
) -> None:
    for one in (at("one", 5), at("two", 3), msgspec.structs.replace(at("x", 3), type="job.other")):
        await bus.publish_envelope(one)
    until = (NOW - 2 * HOUR).isoformat()
    done = await mediabus(
        settings, "replay", "--since", "4h", "--until", until, "--type", "job.executed"
    )
    assert done.out == "1 events in the stream, 1 missing ones stored\n"
    early = await mediabus(settings, "replay", "--since", "9h", "--until", until, "--type", "x.y")
    assert early.out == "0 events in the stream, 0 missing ones stored\n"
    assert early.err == "note: x.y is not a registered type\n"
    assert [row["data"]["job_name"] for row in await rows(pool)] == ["two"]


async def test_without_the_history_a_replay_prints_advice(
    settings: Settings, pool: Pool, bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    await bus.publish_envelope(at("one", 1))
    at_all = ("replay", "--since", "2h", "--dry-run")
    async with nobody(pool, settings.database.url or "") as denied:
        refused = await mediabus(msgspec.structs.replace(settings, database=denied), *at_all)
    assert refused.code == 1
    assert refused.err == (
        "mediabus: PostgreSQL: permission denied for table events. "
        "Use a role with this right in MEDIABUS_DATABASE_URL\n"
    )
    await pool.execute("DROP TABLE events")
    empty = await mediabus(settings, *at_all)
    assert (empty.code, empty.out) == (1, "")
    assert empty.err == (
        'mediabus: PostgreSQL: relation "events" does not exist: run `mediabus migrate`\n'
    )
    monkeypatch.setattr(replaying, "CONNECT_WITHIN", 1.0)
    monkeypatch.setenv("MEDIABUS_DATABASE_URL", f"postgresql://x@127.0.0.1:{free_port()}/x")
    with pytest.raises(Unanswered, match="Cannot reach PostgreSQL within 1 s"):
        async with replaying._history(Face(None, None, None)):
            pass


async def test_a_replay_reports_events_that_cannot_be_stored(
    settings: Settings, pool: Pool, bus: Bus
) -> None:
    await bus.publish_envelope(at("too new", -100))
    until = (NOW + 200 * HOUR).isoformat()
    done = await mediabus(settings, "replay", "--since", "1h", "--until", until)
    assert done.out == "1 events in the stream, 0 missing ones stored\n"
    assert done.err == "1 cannot be stored: see `mediabus dead list`\n"
    assert await rows(pool) == []


async def test_replayed_events_reach_only_one_consumer_in_order(
    settings: Settings, pool: Pool, bus: Bus
) -> None:
    """Though the stream has none of them any more."""
    past = [at(f"event {number}", 250 - number) for number in range(230)]
    shuffled = past[100:] + past[:100]
    await EventStore(pool).store([EventRow.of(one, 7) for one in shuffled])
    before = await rows(pool)
    mine, yours = Notebook(), Notebook()
    async with consuming(bus, "mine", mine), consuming(bus, "yours", yours):
        told = await mediabus(settings, "replay", "--since", "1000h", "--to", "mine", "--dry-run")
        assert told.out == "230 events for mine\n"
        fed = await mediabus(settings, "replay", "--since", "1000h", "--to", "mine")
        assert fed.out == "published 230 events to mine\n"
        await eventually(lambda: len(mine.took) >= 230, within=30)
        again = await mediabus(settings, "replay", "--since", "23h", "--to", "mine")
        assert again.out == "published 2 events to mine\n"
        await eventually(lambda: len(mine.took) >= 232, within=30)
        await bus.publish_envelope(event("now"))
        await eventually(lambda: "now" in mine.names and "now" in yours.names)
    assert mine.names == [*(f"event {n}" for n in range(230)), "event 228", "event 229", "now"]
    assert yours.names == ["now"]
    assert [(one.id, one.time, one.actor, one.resource) for one in mine.took[:230]] == [
        (one.id, one.time, one.actor, one.resource) for one in past
    ]
    assert await rows(pool) == before
    assert (await bus.js.stream_info(EVENTS_STREAM)).state.last_seq == 1
    assert (await bus.js.stream_info(REPLAY_STREAM)).state.messages == 0


@pytest.mark.parametrize("name", ["mnie", "no name"])
async def test_no_event_is_replayed_to_an_unknown_consumer(
    settings: Settings, bus: Bus, name: str
) -> None:
    assert bus.is_connected
    refused = await mediabus(settings, "replay", "--since", "1h", "--to", name)
    assert refused.code == 1
    assert refused.err == (f"mediabus: consumer {name!r} has never run: start it, then replay\n")


async def test_a_rejected_replayed_event_is_retried_for_its_consumer(
    settings: Settings, pool: Pool, bus: Bus
) -> None:
    """Its number in the one stream may be that of another message in the other."""
    old = at("old", 5)
    await EventStore(pool).store([EventRow.of(old, 1)])
    yours, took = Notebook(), Notebook()
    moody = True

    async def mine(envelope: Envelope) -> None:
        if moody:
            raise Rejected("not in the mood")
        await took(envelope)

    async with consuming(bus, "mine", mine), consuming(bus, "yours", yours):
        await bus.publish_envelope(event("new"))
        await mediabus(settings, "replay", "--since", "9h", "--to", "mine")
        await eventually(lambda: has_letters(bus, 2))
        found = {one.stream: one for one in await DeadLetters(bus).all()}
        letter = found[REPLAY_STREAM]
        assert (letter.stream_seq, found[EVENTS_STREAM].stream_seq) == (1, 1)
        assert (letter.type, letter.consumer) == ("job.executed", "mine")
        moody = False
        await DeadLetters(bus).retry(letter.number)
        await eventually(lambda: took.names == ["old"])
    assert yours.names == ["new"]
    assert took.took[0].id == old.id


async def has_letters(bus: Bus, number: int) -> bool:
    return (await bus.js.stream_info(DEAD_LETTERS_STREAM)).state.messages == number


async def test_a_replay_reports_and_skips_events_that_are_too_large(
    settings: Settings, pool: Pool, bus: Bus
) -> None:
    """As an event just below the limit that left out what our envelope says."""
    data = msgspec.json.encode({"job_name": "x" * codec.MAX_EVENT_BYTES})
    blown_up = msgspec.structs.replace(at("large", 5), data=msgspec.Raw(data))
    await EventStore(pool).store([EventRow.of(one, 1) for one in (at("old", 6), blown_up)])
    took = Notebook()
    async with consuming(bus, "mine", took):
        fed = await mediabus(settings, "replay", "--since", "9h", "--to", "mine")
        assert fed.out == "published 1 events to mine\n"
        assert fed.err == "skipped 1 events that are too large for NATS\n"
        await eventually(lambda: took.names == ["old"])


async def test_an_interrupted_replay_prints_where_to_continue(
    pool: Pool, bus: Bus, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    past = [at(f"event {number}", 250 - number) for number in range(150)]
    await EventStore(pool).store([EventRow.of(one, 1) for one in past])
    pages_fed = 0

    async def publish(*args: Any) -> None:
        nonlocal pages_fed
        pages_fed += 1
        if pages_fed == 2:
            raise PublishFailed("NATS is not connected")
        await publish_all(*args)

    monkeypatch.setattr(replaying, "publish_all", publish)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setattr(sys, "__stderr__", sys.stderr)  # progress goes around the escaping stream
    went_on = re.escape(
        "100 of 150 events were published, then: NATS is not connected. "
        f"Continue with --since {past[100].time.isoformat()}"
    )
    async with consuming(bus, "mine", Notebook()):
        with pytest.raises(PublishFailed, match=went_on):
            await replaying._feed(bus, pool, EVER, "mine", dry_run=False)
    assert "100 of 150 events, up to" in capsys.readouterr().err


async def test_events_of_one_moment_are_all_read(pool: Pool) -> None:
    many = [at("same", 5) for _ in range(250)]
    await EventStore(pool).store([EventRow.of(one, 1) for one in many])
    read = [one.id async for page in pages(pool, EVER) for one in page]
    assert read == sorted(one.id for one in many)
    assert await count(pool, EVER) == 250


async def test_a_read_ends_even_if_the_remaining_messages_were_purged(
    bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when the oldest events leave a stream that is just being read."""
    await bus.publish_envelope(event("one"))
    ask = bus.js.stream_info

    async def ask_and_purge(stream: str) -> StreamInfo:
        info = await ask(stream)
        await bus.js.purge_stream(EVENTS_STREAM)
        return info

    monkeypatch.setattr(bus.js, "stream_info", ask_and_purge)
    reading = read_stream(bus, EVENTS_SUBJECTS, NOW - HOUR, follow=False)
    async with asyncio.timeout(20):
        assert [message async for message in reading] == []


async def test_one_process_handles_one_event_at_a_time_old_or_new(
    settings: Settings, pool: Pool, bus: Bus
) -> None:
    await EventStore(pool).store([EventRow.of(at(f"old {n}", 5), 1) for n in range(5)])
    at_once, most, took = 0, 0, 0

    async def slow(_: Envelope) -> None:
        nonlocal at_once, most, took
        at_once += 1
        most = max(most, at_once)
        await asyncio.sleep(0.05)
        at_once -= 1
        took += 1

    async with consuming(bus, "mine", slow):
        await mediabus(settings, "replay", "--since", "9h", "--to", "mine")
        for number in range(5):
            await bus.publish_envelope(event(f"new {number}"))
        await eventually(lambda: took == 10)
    assert most == 1
