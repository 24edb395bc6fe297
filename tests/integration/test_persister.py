"""The persister stores every event of the stream once.

Only messages that are not events go to the dead letters.
"""

import asyncio
import contextlib
import datetime
import random
import shutil
import tempfile
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any, Final

import asyncpg
import msgspec
import pytest

from mediabus.consumers.daemon import durable
from mediabus.consumers.dead_letters import DeadLetters
from mediabus.consumers.event_row import EventRow
from mediabus.consumers.persister import isolation, store, stragglers
from mediabus.consumers.persister.retention import (
    DROP_PARTITION,
    ENSURE_PARTITION,
    ClockIsWrong,
    JumpingClock,
    drop_expired,
)
from mediabus.consumers.persister.run import persist
from mediabus.runtime.nats.bus import Bus, connect
from mediabus.runtime.nats.streams import keep_streams
from mediabus.runtime.postgres.database import Pool, open_pool
from mediabus.runtime.postgres.schema import migrate
from mediabus.runtime.settings import DatabaseSettings, NatsSettings, PersisterSettings
from mediabus.schemas.identity import uuid7
from mediabus.schemas.operations.dead_letters import DeadLetter
from mediabus.schemas.subjects import EVENTS_STREAM
from tests.support.eventually import eventually
from tests.support.servers import NatsServer, PostgresServer, postgres_server
from tests.support.slowness import storing_slowly
from tests.support.stream import is_handled, transaction

NOW = datetime.datetime.now(datetime.UTC)
SUBJECT = "events.other.thing.happened.1"


def attributes_of(**attributes: Any) -> dict[str, Any]:
    """An event of an unregistered type, as JSON would have it."""
    return {
        "specversion": "1.0",
        "id": str(uuid7()),
        "source": "test",
        "type": "thing.happened",
        "time": NOW.isoformat(),
        "data": {},
    } | attributes


def encoded(**attributes: Any) -> bytes:
    return msgspec.json.encode(attributes_of(**attributes))


@contextlib.asynccontextmanager
async def persisting(bus: Bus, pool: Pool, **settings: Any) -> AsyncIterator[None]:
    task = asyncio.create_task(persist(bus, pool, PersisterSettings(**settings)))
    streams = asyncio.create_task(keep_streams(bus, NatsSettings()))
    try:
        yield
    finally:
        assert not task.done(), task
        task.cancel()
        streams.cancel()
        await asyncio.wait([task, streams])


async def publish(bus: Bus, *payloads: bytes) -> None:
    """Publish messages that may not be events."""
    for payload in payloads:
        await bus.js.publish(SUBJECT, payload)


async def all_acknowledged(bus: Bus) -> None:
    """Wait until the persister has read and acknowledged everything."""
    await eventually(lambda: has_consumer(bus))
    await eventually(lambda: is_handled(bus, "persister"), within=30)


async def has_consumer(bus: Bus) -> bool:
    return bool(await bus.js.consumers_info(EVENTS_STREAM))


async def count(pool: Pool) -> int:
    stored: int = await pool.fetchval("SELECT count(*) FROM events")
    return stored


async def letters(bus: Bus) -> list[DeadLetter]:
    return await DeadLetters(bus).all()


async def test_three_persisters_store_each_event_once(bus: Bus, pool: Pool, nats_url: str) -> None:
    ids = [uuid7() for _ in range(3000)]
    async with contextlib.AsyncExitStack() as stack:
        for number in range(3):
            settings = NatsSettings(url=nats_url)
            own = await stack.enter_async_context(connect(settings, name=f"persister {number}"))
            await stack.enter_async_context(persisting(own, pool, batch=50))
        for start in range(0, len(ids), 250):  # nats-py waits 5 s for each, on a slow machine too
            some = ids[start : start + 250]
            await asyncio.gather(*(publish(bus, encoded(id=str(one))) for one in some))
        await all_acknowledged(bus)
        rows = await pool.fetch("SELECT id, stream_seq FROM events")
    assert len(rows) == len(ids)
    assert {row["id"] for row in rows} == set(ids)
    assert sorted(row["stream_seq"] for row in rows) == list(range(1, len(ids) + 1))
    assert await letters(bus) == []


async def test_every_column_has_the_value_of_the_event(bus: Bus, pool: Pool) -> None:
    whole = attributes_of(
        source="importer/7",
        subject="thing/a b.c",
        category="things",
        severity="warning",
        actortype="job",
        actorid="nightly",
        correlationid="request 1",
        causationid="event 0",
        data={"text": "Ünï \U0001f3ac", "list": [1, 2.5, None], "deep": {"er": True}},
    )
    async with persisting(bus, pool):
        await publish(bus, msgspec.json.encode(whole))
        await all_acknowledged(bus)
    row = dict((await pool.fetch("SELECT * FROM events"))[0])
    recorded_at = row.pop("recorded_at")
    assert recorded_at >= NOW
    assert str(row.pop("id")) == whole["id"]
    assert row == {
        "occurred_at": NOW,
        "stream_seq": 1,
        "category": "things",
        "type": "thing.happened",
        "severity": "warning",
        "source": "importer/7",
        "actor_type": "job",
        "actor_id": "nightly",
        "actor_verified": False,
        "resource_type": "thing",
        "resource_id": "a b.c",
        "correlation_id": "request 1",
        "causation_id": "event 0",
        "data": whole["data"],
        "extensions": None,
        "published_id": None,
        "message": msgspec.json.encode(whole),
    }


async def test_unknown_fields_of_a_registered_type_are_kept(bus: Bus, pool: Pool) -> None:
    data = {"job_name": "scan", "mood": {"of": ["the", "importer"]}}
    async with persisting(bus, pool):
        await publish(bus, encoded(type="job.executed", data=data, traceparent="00-ab"))
        await all_acknowledged(bus)
    rows = await pool.fetch("SELECT data, category, extensions FROM events")
    assert [dict(row) for row in rows] == [
        {"data": data, "category": "system", "extensions": {"traceparent": "00-ab"}}
    ]


async def test_an_event_in_binary_mode_is_stored(bus: Bus, pool: Pool) -> None:
    event_id = uuid7()
    headers = {
        "ce-specversion": "1.0",
        "ce-id": str(event_id),
        "ce-source": "test",
        "ce-type": "job.executed",
        "ce-time": NOW.isoformat(),
        "ce-actortype": "job",
        "ce-actorid": "nightly",
        "Content-Type": "application/json",
    }
    async with persisting(bus, pool):
        await bus.js.publish(SUBJECT, b'{"job_name": "scan", "more": 1}', headers=headers)
        await all_acknowledged(bus)
    rows = await pool.fetch("SELECT id, type, actor_id, data FROM events")
    assert [tuple(row) for row in rows] == [
        (event_id, "job.executed", "nightly", {"job_name": "scan", "more": 1})
    ]


async def test_a_duplicate_event_is_stored_once(bus: Bus, pool: Pool) -> None:
    """In one batch, and in a later one."""
    one, two = attributes_of(data={"nth": 1}), attributes_of()
    await publish(bus, *map(msgspec.json.encode, (one, two, one)))
    async with persisting(bus, pool):
        await all_acknowledged(bus)
        await publish(bus, msgspec.json.encode(one))
        await all_acknowledged(bus)
    stored = "SELECT data FROM events WHERE id = $1::text::uuid"
    assert [row["data"] for row in await pool.fetch(stored, one["id"])] == [{"nth": 1}]
    assert await count(pool) == 2
    assert await letters(bus) == []


async def test_a_different_event_with_a_stored_id_is_dead_lettered(bus: Bus, pool: Pool) -> None:
    """In the batch of the first one, and in a later one: neither vanishes as a duplicate."""
    one = attributes_of(data={"nth": 1})
    others = [one | {"data": {"nth": 2}}, one | {"source": "somebody else"}]
    await publish(bus, *map(msgspec.json.encode, (one, others[0])))
    async with persisting(bus, pool):
        await all_acknowledged(bus)
        await publish(bus, msgspec.json.encode(others[1]))
        await all_acknowledged(bus)
    assert [row["data"] for row in await pool.fetch("SELECT data FROM events")] == [{"nth": 1}]
    found = await letters(bus)
    assert [letter.stream_seq for letter in found] == [2, 3]
    assert {letter.reason for letter in found} == {
        "another event with the same id and time is stored already"
    }


async def test_an_id_with_another_time_is_another_event(bus: Bus, pool: Pool) -> None:
    """An id belongs to one event, its time included: see docs/architecture.md."""
    one = attributes_of()
    later = one | {"time": (NOW + datetime.timedelta(seconds=1)).isoformat()}
    async with persisting(bus, pool):
        await publish(bus, *map(msgspec.json.encode, (one, later, one)))
        await all_acknowledged(bus)
    assert await count(pool) == 2
    assert await letters(bus) == []


def nested(depth: int) -> msgspec.Raw:
    return msgspec.Raw(b'{"job_name": "x", "deep": ' + b"[" * depth + b"]" * depth + b"}")


DAY = datetime.timedelta(days=1)
LONG_NAME = "".join(chr(random.Random(n).randrange(0x20000, 0x2A000)) for n in range(1000))
"""In 4,000 bytes that no compression makes fit into a page of an index."""

BAD: dict[str, tuple[bytes, str, str]] = {
    "no JSON": (b"\xff\x00 what", "invalid", "not a CloudEvents 1.0 envelope"),
    "no object": (b"[]", "invalid", "not a CloudEvents 1.0 envelope"),
    "nothing": (b"", "invalid", "not a CloudEvents 1.0 envelope"),
    "no id": (b'{"specversion": "1.0"}', "invalid", "missing required field"),
    "another version": (encoded(specversion="0.3"), "invalid", "specversion"),
    "no time zone": (encoded(time="2026-01-01T00:00:00"), "invalid", "$.time"),
    "half an actor": (encoded(actorid="42"), "invalid", "actortype and actorid belong together"),
    "no data of its type": (encoded(type="job.executed"), "invalid", "job_name"),
    "wrong data": (encoded(type="job.executed", data={"job_name": 1}), "invalid", "$.job_name"),
    "NUL": (encoded(data={"text": "a\0b"}), "invalid", "NUL"),
    "NUL in a name": (encoded(data={"a\0b": 1}), "invalid", "NUL"),
    "lone surrogate": (
        encoded(data=msgspec.Raw(b'{"text": "\\ud800"}')),
        "invalid",
        "not a CloudEvents 1.0 envelope",
    ),
    "lone surrogate in an unknown field": (
        encoded(type="job.executed", data=msgspec.Raw(b'{"job_name": "x", "y": "\\udc00"}')),
        "invalid",
        "not a CloudEvents 1.0 envelope",
    ),
    "not UTF-8 in an unknown field": (
        encoded(type="job.executed", data=msgspec.Raw(b'{"job_name": "x", "y": "\xff"}')),
        "invalid",
        "'utf-8' codec can't decode",
    ),
    "not UTF-8 in a name": (
        encoded(data=msgspec.Raw(b'{"\xc0\x80": 1}')),
        "invalid",
        "'utf-8' codec",
    ),
    "a surrogate in UTF-8": (
        encoded(data=msgspec.Raw(b'["\xed\xa0\x80"]')),
        "invalid",
        "'utf-8' codec",
    ),
    "a number beyond numeric": (
        encoded(type="job.executed", data=msgspec.Raw(b'{"job_name": "x", "y": 1e200000}')),
        "rejected",
        "PostgreSQL refuses it",
    ),
    "too deep": (encoded(type="job.executed", data=nested(100_000)), "invalid", "recursion"),
    "too old": (
        encoded(time=(NOW - 3700 * DAY).isoformat()),
        "rejected",
        "more than ten years ago",
    ),
    "too new": (encoded(time=(NOW + 3 * DAY).isoformat()), "rejected", "more than a day ahead"),
    "the year 1": (encoded(time="0001-01-01T00:00:00+14:00"), "rejected", "ten years"),
    "the year 9999": (encoded(time="9999-12-31T23:59:59-14:00"), "rejected", "a day ahead"),
    "a name that no index takes": (
        encoded(subject=f"thing/{LONG_NAME}"),
        "rejected",
        "PostgreSQL refuses it",
    ),
}


@pytest.mark.parametrize("kind", sorted(BAD))
async def test_only_the_invalid_message_of_a_batch_is_dead_lettered(
    bus: Bus, pool: Pool, kind: str
) -> None:
    payload, verdict, reason = BAD[kind]
    neighbours = [uuid7() for _ in range(6)]
    good = [encoded(id=str(one)) for one in neighbours]
    await publish(bus, *good[:3], payload, *good[3:])
    async with persisting(bus, pool):
        await all_acknowledged(bus)
    assert {row["id"] for row in await pool.fetch("SELECT id FROM events")} == set(neighbours)
    [letter] = await letters(bus)
    assert (letter.kind, letter.stream_seq, letter.deliveries) == (verdict, 4, 1)
    assert reason in letter.reason
    assert (await DeadLetters(bus).get(letter.number))[1] == payload


@pytest.mark.parametrize(
    "headers",
    [
        {"X()": "a name that nats-py does not send"},
        {"X": "x" * 65_400},
        {"Nats-Msg-Id": "x" * 65_400},
        {"Status": "404"},
    ],
    ids=lambda headers: next(iter(headers)),
)
async def test_a_message_with_headers_that_do_not_fit_is_dead_lettered(
    bus: Bus, pool: Pool, nats: NatsServer, headers: dict[str, str]
) -> None:
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    block = f"NATS/1.0\r\n{lines}\r\n".encode()
    await say_raw(
        nats, b"HPUB events.a.b.c.d %d %d\r\n%sbad\r\n" % (len(block), len(block) + 3, block)
    )
    await eventually(lambda: holds(bus, 1))
    async with persisting(bus, pool):
        await all_acknowledged(bus)
    [letter] = await letters(bus)
    assert (await DeadLetters(bus).get(letter.number))[1] == b"bad"


async def say_raw(nats: NatsServer, line: bytes) -> None:
    _, writer = await asyncio.open_connection("127.0.0.1", nats.port)
    writer.write(b'CONNECT {"verbose":false,"headers":true}\r\n' + line)
    await writer.drain()
    writer.close()
    await writer.wait_closed()


async def test_all_bad_rows_of_a_batch_are_found(bus: Bus, pool: Pool) -> None:
    beyond = msgspec.Raw(b'{"job_name": "x", "y": 1e200000}')
    bad = [encoded(type="job.executed", data=beyond) for _ in range(20)]
    good = [encoded() for _ in range(20)]
    await publish(bus, *(one for pair in zip(bad, good, strict=True) for one in pair))
    async with persisting(bus, pool):
        await all_acknowledged(bus)
    assert await count(pool) == len(good)
    assert {letter.stream_seq for letter in await letters(bus)} == set(range(1, 41, 2))


async def test_large_numbers_and_texts_are_stored(bus: Bus, pool: Pool) -> None:
    data = b'{"job_name": "x", "big": 123456789012345678901234567890, "bigger": 1e400}'
    async with persisting(bus, pool):
        await publish(bus, encoded(type="job.executed", data=msgspec.Raw(data)))
        await publish(bus, encoded(data={"text": "x" * 900_000}))
        await all_acknowledged(bus)
    numbers = await pool.fetchval(
        "SELECT data->>'big' FROM events WHERE (data->>'bigger')::numeric = 1e400"
    )
    assert numbers == "123456789012345678901234567890"
    assert await count(pool) == 2


async def test_large_events_are_stored_in_small_batches(
    bus: Bus, pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each is in memory several times on its way to PostgreSQL: a batch of them is not."""
    sizes: list[int] = []
    insert = store.EventStore._insert

    async def noting(self: store.EventStore, rows: Sequence[EventRow]) -> Sequence[EventRow]:
        sizes.append(len(msgspec.json.encode(rows)))
        return await insert(self, rows)

    monkeypatch.setattr(store.EventStore, "_insert", noting)
    large = [encoded(data={"text": "x" * 900_000}) for _ in range(20)]
    await publish(bus, *large, *(encoded() for _ in range(50)))
    async with persisting(bus, pool):
        await all_acknowledged(bus)
    assert await count(pool) == 70
    assert max(sizes) < 8_000_000


async def test_a_subject_that_is_not_utf8_does_not_block_the_persister(
    bus: Bus, pool: Pool
) -> None:
    port = bus.nc.connected_url.port  # type: ignore[union-attr]
    _, writer = await asyncio.open_connection("127.0.0.1", port)
    payload = encoded()
    writer.write(b"CONNECT {}\r\nPUB events.a.b.c.\xff %d\r\n%s\r\n" % (len(payload), payload))
    await writer.drain()
    await eventually(lambda: holds(bus, 1))
    writer.close()
    await writer.wait_closed()
    await publish(bus, encoded(), encoded())
    async with persisting(bus, pool):
        await eventually(lambda: has(pool, 3), within=5)
        await all_acknowledged(bus)


async def holds(bus: Bus, messages: int) -> bool:
    state = (await bus.js.stream_info(EVENTS_STREAM)).state
    return state.messages >= messages


async def has(pool: Pool, events: int) -> bool:
    return await count(pool) >= events


async def test_stream_and_consumer_are_created_again_after_a_lost_disk(
    nats: NatsServer, bus: Bus, pool: Pool
) -> None:
    async with persisting(bus, pool):
        await publish(bus, encoded())
        await all_acknowledged(bus)
        nats.kill()
        shutil.rmtree(nats.directory / "store")
        await asyncio.to_thread(nats.start)
        await eventually(lambda: has_stream(bus))
        await publish(bus, encoded())
        await eventually(lambda: has(pool, 2))


async def has_stream(bus: Bus) -> bool:
    return bus.is_connected and bool(await bus.js.streams_info())


def months_ago(months: int) -> datetime.datetime:
    number = NOW.year * 12 + NOW.month - 1 - months
    return datetime.datetime(number // 12, number % 12 + 1, 15, tzinfo=datetime.UTC)


async def test_events_from_ten_years_ago_to_tomorrow_get_partitions(bus: Bus, pool: Pool) -> None:
    times = [months_ago(months) for months in range(1, 120)]
    times += [NOW - 3650 * DAY, NOW, NOW + DAY]
    async with persisting(bus, pool):
        await asyncio.gather(*(publish(bus, encoded(time=time.isoformat())) for time in times))
        await all_acknowledged(bus)
    rows = await pool.fetch("SELECT tableoid::regclass::text AS month, occurred_at FROM events")
    assert len(rows) == len(times)
    assert all(row["month"] == f"events_{row['occurred_at']:%Y_%m}" for row in rows)


async def test_the_partition_is_the_month_in_utc(bus: Bus, pool: Pool) -> None:
    """The last evening of a month in New York is the next month; then a real event of the month."""
    month = months_ago(6)
    evening = (month.replace(day=28) + 4 * DAY).replace(day=1) - datetime.timedelta(minutes=30)
    local = evening.replace(tzinfo=datetime.timezone(datetime.timedelta(hours=-5)))
    async with persisting(bus, pool):
        for time in (local, month):
            await publish(bus, encoded(time=time.isoformat()))
            await all_acknowledged(bus)
    rows = await pool.fetch(
        "SELECT tableoid::regclass::text AS month FROM events ORDER BY stream_seq"
    )
    assert [row["month"] for row in rows] == [
        f"events_{local.astimezone(datetime.UTC):%Y_%m}",
        f"events_{month:%Y_%m}",
    ]


async def test_partitions_are_created_ahead_of_time(bus: Bus, pool: Pool) -> None:
    async with persisting(bus, pool):
        wanted = {f"events_{NOW:%Y_%m}", f"events_{NOW + 7 * DAY:%Y_%m}"}

        async def made() -> bool:
            return wanted <= await partitions(pool)

        await eventually(made)


async def partitions(pool: Pool) -> set[str]:
    rows = await pool.fetch(
        "SELECT inhrelid::regclass::text AS name FROM pg_inherits "
        "WHERE inhparent = 'events'::regclass"
    )
    return {row["name"] for row in rows}


async def test_retention_drops_only_whole_months(bus: Bus, pool: Pool) -> None:
    times = [months_ago(months) for months in range(5)]
    async with persisting(bus, pool):
        await asyncio.gather(*(publish(bus, encoded(time=time.isoformat())) for time in times))
        await all_acknowledged(bus)
        dropped = await dropped_in_turn(pool, 2)
    assert dropped == sorted(dropped)
    assert set(dropped) == {f"events_{months_ago(months):%Y_%m}" for months in (3, 4)}
    assert not set(dropped) & await partitions(pool)
    assert await count(pool) == 3


async def dropped_in_turn(pool: Pool, keep_months: int) -> list[str]:
    """Each pass drops one month at most: those of as many passes as it takes."""
    dropped: list[str] = []
    while month := await drop_expired(pool, keep_months, NOW):
        assert len(month) == 1
        dropped += month
    return dropped


async def test_two_persisters_can_drop_the_same_partitions(bus: Bus, pool: Pool) -> None:
    times = [NOW, *(months_ago(months) for months in range(1, 30))]
    async with persisting(bus, pool):
        await asyncio.gather(*(publish(bus, encoded(time=time.isoformat())) for time in times))
        await all_acknowledged(bus)
        await asyncio.gather(*(dropped_in_turn(pool, 1) for _ in range(4)))
    assert await count(pool) == 2


async def test_dropping_a_partition_blocks_no_query_during_a_backup(bus: Bus, pool: Pool) -> None:
    async with persisting(bus, pool):
        await publish(bus, encoded(time=months_ago(4).isoformat()), encoded())
        await all_acknowledged(bus)
        async with transaction(pool) as backup:
            await backup.fetchval("SELECT count(*) FROM events")
            dropping = asyncio.create_task(drop_expired(pool, 2, NOW))
            await asyncio.sleep(0.5)
            await publish(bus, encoded())
            await eventually(lambda: has(pool, 3), within=20)
            with pytest.raises(asyncpg.LockNotAvailableError):
                await dropping
        assert await drop_expired(pool, 2, NOW)


async def test_events_are_stored_while_a_partition_cannot_be_dropped(
    bus: Bus, pool: Pool, caplog: pytest.LogCaptureFixture
) -> None:
    async with persisting(bus, pool):
        await publish(bus, encoded(time=months_ago(4).isoformat()), encoded())
        await all_acknowledged(bus)
    month = f"events_{months_ago(4):%Y_%m}"
    await pool.execute(f"CREATE VIEW a_month AS SELECT id FROM {month}")
    async with persisting(bus, pool, keep_months=2):
        await eventually(lambda: any(month in getattr(one, "error", "") for one in caplog.records))
        await publish(bus, encoded())
        await all_acknowledged(bus)
    assert await count(pool) == 3


async def test_an_event_of_a_dropped_month_is_stored(bus: Bus, pool: Pool) -> None:
    """The persister remembers that it made the month; it is gone since."""
    old = months_ago(4)
    async with persisting(bus, pool):
        await publish(bus, encoded(time=old.isoformat()), encoded())
        await all_acknowledged(bus)
        assert await drop_expired(pool, 2, NOW)
        await publish(bus, encoded(time=old.isoformat()), encoded())
        await all_acknowledged(bus)
    assert await letters(bus) == []
    assert await count(pool) == 3


YEARS: Final = 730 * DAY


async def test_a_clock_years_ahead_drops_no_partition(bus: Bus, pool: Pool) -> None:
    times = [months_ago(months) for months in range(5)]
    async with persisting(bus, pool):
        await publish(bus, *(encoded(time=time.isoformat()) for time in times))
        await all_acknowledged(bus)
        before = await partitions(pool)
        for wrong in (NOW + YEARS, NOW - YEARS):
            with pytest.raises(ClockIsWrong, match="correct the wrong one"):
                await drop_expired(pool, 2, wrong)
    assert await partitions(pool) == before


async def test_no_partition_is_dropped_if_the_clocks_differ(pool: Pool) -> None:
    for months in range(2):
        await pool.execute(ENSURE_PARTITION, months_ago(months))
        with pytest.raises(asyncpg.RaiseError, match="too young to be dropped"):
            await pool.execute(DROP_PARTITION, f"events_{months_ago(months):%Y_%m}")


async def test_in_an_idle_library_the_newest_event_sets_the_time(bus: Bus, pool: Pool) -> None:
    """As after a clock jumped with that of PostgreSQL: everything would be old at once."""
    async with persisting(bus, pool):
        await publish(bus, *(encoded(time=months_ago(n).isoformat()) for n in range(20, 30)))
        await all_acknowledged(bus)
        assert await dropped_in_turn(pool, 4) == [
            f"events_{months_ago(n):%Y_%m}" for n in range(29, 24, -1)
        ]


def test_nothing_is_dropped_for_a_day_after_a_clock_jump() -> None:
    clock, hour = JumpingClock(), datetime.timedelta(hours=1)
    for n in range(100):  # time passes, in steps as large as one likes
        clock.check(NOW + n * 50 * hour, n * 50 * 3600.0)
    began = 100 * 50 * 3600.0
    for n in range(24):
        with pytest.raises(ClockIsWrong, match="was set to"):
            clock.check(NOW + 5000 * hour + YEARS + n * hour, began + n * 3600)
    clock.check(NOW + 5000 * hour + YEARS + 24 * hour, began + 24 * 3600)


async def test_a_partition_is_created_while_others_read(bus: Bus, pool: Pool) -> None:
    """They read in a transaction that stays open, as a backup does, and hold advisory locks."""
    async with transaction(pool) as backup:
        await backup.fetchval("SELECT count(*) FROM events")
        await backup.execute("SELECT pg_advisory_lock(hashtext('mediabus.events_partition'))")
        async with persisting(bus, pool):
            await publish(bus, *(encoded(time=months_ago(n).isoformat()) for n in range(4, 40)))
            await eventually(lambda: has(pool, 36), within=20)
            await all_acknowledged(bus)
    assert await letters(bus) == []


async def test_a_missing_partition_delays_only_its_own_events(
    bus: Bus, pool: Pool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("mediabus.consumers.verdict.FIRST_DELAY", 0.1)
    month = f"events_{months_ago(7):%Y_%m}"
    await pool.execute(f"CREATE TABLE {month} ()")
    async with persisting(bus, pool):
        await publish(bus, encoded(time=months_ago(7).isoformat()), *(encoded() for _ in range(9)))
        await eventually(lambda: has(pool, 9))
        await eventually(
            lambda: (
                f'relation "{month}" already exists'
                in str(caplog.records[-1].__dict__.get("reason"))
            )
        )
        await pool.execute(f"DROP TABLE {month}")
        await all_acknowledged(bus)
    assert await count(pool) == 10
    assert await letters(bus) == []


async def test_partitions_far_in_the_future_are_refused(pool: Pool) -> None:
    for moment in ("12345-01-01", "2100-01-01", "1800-01-01"):
        with pytest.raises(asyncpg.InvalidParameterValueError, match="is no month of events"):
            await pool.execute(f"SELECT ensure_events_partition('{moment}')")


REFUSE: Final = """
CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.source = 'bad' THEN
        RAISE EXCEPTION 'a trigger of the user' USING ERRCODE = '{code}';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER refuse BEFORE INSERT ON events FOR EACH ROW EXECUTE FUNCTION refuse();
"""


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("P0001", "rejected"),
        ("P0004", "failed"),
        ("0A000", "failed"),
        ("08006", "failed"),
        ("40001", "failed"),
        ("42501", "failed"),
        ("53100", "failed"),
        ("55P03", "failed"),
        ("57014", "failed"),
        ("57P01", "failed"),
        ("XX000", "failed"),
        ("ZZ999", "failed"),
    ],
)
async def test_a_row_that_postgresql_refuses_is_isolated(
    bus: Bus, pool: Pool, monkeypatch: pytest.MonkeyPatch, code: str, kind: str
) -> None:
    monkeypatch.setattr("mediabus.consumers.verdict.FIRST_DELAY", 0.1)
    monkeypatch.setattr("mediabus.consumers.verdict.MAX_DELIVERIES", 3)
    await pool.execute(REFUSE.format(code=code))
    await publish(bus, encoded(source="bad"), *(encoded() for _ in range(10)))
    async with persisting(bus, pool):
        await eventually(lambda: has(pool, 10))
        await all_acknowledged(bus)
    assert await count(pool) == 10
    [letter] = await letters(bus)
    assert (letter.kind, letter.stream_seq) == (kind, 1)
    assert "a trigger of the user" in letter.reason


async def test_rows_wait_while_the_server_refuses_all_of_them(
    bus: Bus, pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a full disk: none becomes a dead letter, and other batches get their turn."""
    monkeypatch.setattr("mediabus.consumers.verdict.FIRST_DELAY", 0.1)
    monkeypatch.setattr("mediabus.consumers.verdict.MAX_DELIVERIES", 2)
    monkeypatch.setattr(isolation, "HOLD_FOR", 0.3)
    await pool.execute(REFUSE.format(code="53100"))
    async with persisting(bus, pool):
        await publish(bus, *(encoded(source="bad") for _ in range(10)))
        await eventually(lambda: was_delivered_again(bus))
        await asyncio.sleep(1)
        assert await letters(bus) == []
        await pool.execute("DROP TRIGGER refuse ON events")
        await all_acknowledged(bus)
    assert await count(pool) == 10
    assert await letters(bus) == []


@pytest.fixture
async def own() -> AsyncIterator[tuple[PostgresServer, Pool]]:
    """A PostgreSQL to stop, and connections to it."""
    with (
        tempfile.TemporaryDirectory(prefix="mediabus-") as directory,
        postgres_server(Path(directory)) as server,
    ):
        async with open_pool(DatabaseSettings(url=server.url, pool_size=4)) as pool:
            await migrate(pool)
            yield server, pool


@pytest.mark.parametrize("how", ["stop", "kill"])
async def test_a_database_outage_loses_no_event(
    bus: Bus, own: tuple[PostgresServer, Pool], how: str
) -> None:
    server, pool = own
    ids = [uuid7() for _ in range(2000)]
    async with persisting(bus, pool, batch=20):
        saying = asyncio.gather(*(publish(bus, encoded(id=str(one))) for one in ids))
        await eventually(lambda: has(pool, 100))
        getattr(server, how)()
        await saying
        await asyncio.to_thread(server.start)
        await all_acknowledged(bus)
        await eventually(lambda: is_back(pool))
        rows = await pool.fetch("SELECT id FROM events")
    assert {row["id"] for row in rows} == set(ids)
    assert len(rows) == len(ids)
    assert await letters(bus) == []


async def test_a_batch_that_times_out_is_split(
    bus: Bus, pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "STORE_TIMEOUT", 0.5)
    async with storing_slowly(pool, 50), persisting(bus, pool, writers=1):
        await publish(bus, *(encoded() for _ in range(60)))
        await all_acknowledged(bus)
    assert await count(pool) == 60


async def is_back(pool: Pool) -> bool:
    try:
        return bool(await pool.fetchval("SELECT true"))
    except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
        return False


async def test_events_wait_while_the_server_is_at_fault(
    bus: Bus, pool: Pool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Such as a missing grant: no event is dead-lettered, and storing resumes once it is fixed."""
    monkeypatch.setattr("mediabus.consumers.verdict.FIRST_DELAY", 0.2)
    monkeypatch.setattr(stragglers, "POLL_EVERY", 0.1)
    monkeypatch.setattr(stragglers, "LATE_AFTER", 0.5)
    monkeypatch.setattr(isolation, "HOLD_FOR", 0.5)
    await pool.execute("ALTER TABLE events RENAME COLUMN source TO origin")
    async with persisting(bus, pool):
        await publish(bus, encoded(), encoded())
        await eventually(lambda: was_delivered_again(bus))
        await eventually(lambda: "storing unacknowledged events" in caplog.text)
        await asyncio.sleep(0.5)
        await pool.execute("ALTER TABLE events RENAME COLUMN origin TO source")
        await all_acknowledged(bus)
    assert await count(pool) == 2
    assert await letters(bus) == []


async def was_delivered_again(bus: Bus) -> bool:
    info = await bus.js.consumer_info(EVENTS_STREAM, "persister")
    return bool(info.num_redelivered)


async def test_nothing_is_acknowledged_before_it_is_committed(bus: Bus, pool: Pool) -> None:
    async with pool.acquire() as connection, connection.transaction():
        await connection.execute("LOCK TABLE events IN ACCESS EXCLUSIVE MODE")
        async with persisting(bus, pool):
            await publish(bus, encoded())
            await eventually(lambda: is_being_worked_on(bus))
            assert not (await bus.js.consumer_info(EVENTS_STREAM, "persister")).ack_floor.stream_seq


async def is_being_worked_on(bus: Bus) -> bool:
    if not await has_consumer(bus):
        return False
    return bool((await bus.js.consumer_info(EVENTS_STREAM, "persister")).num_ack_pending)


async def test_an_event_that_is_never_redelivered_is_stored(
    bus: Bus, pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As by one whose clock was an hour ahead: to it the delivery is fresh for as long."""
    monkeypatch.setattr(stragglers, "POLL_EVERY", 0.2)
    monkeypatch.setattr(stragglers, "LATE_AFTER", 1.0)
    await bus.js.add_consumer(EVENTS_STREAM, durable("persister"))
    await publish(bus, b"no event", encoded(id=(late := str(uuid7()))))
    holder = await bus.js.pull_subscribe_bind("persister", EVENTS_STREAM)
    held = await holder.fetch(2)

    async def keep_fresh() -> None:
        while True:
            for message in held:
                await message.in_progress()
            await asyncio.sleep(1)

    holding = asyncio.create_task(keep_fresh())
    async with persisting(bus, pool):
        await publish(bus, encoded())
        await eventually(lambda: pool.fetchval("SELECT count(*) = 2 FROM events"), within=20)
        row = await pool.fetchrow("SELECT stream_seq FROM events WHERE id = $1", late)
    holding.cancel()
    assert row
    assert row["stream_seq"] == 2
