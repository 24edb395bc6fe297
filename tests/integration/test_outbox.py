"""The outbox records an event with its change or not at all, and never fails the change."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import asyncpg
import pytest

from mediabus.runtime import metrics
from mediabus.runtime.nats.bus import Bus
from mediabus.runtime.postgres.database import Pool
from mediabus.schemas import codec
from mediabus.schemas.codec import InvalidEvent
from mediabus.schemas.envelope import Envelope
from mediabus.schemas.subjects import RECORDED_SUBJECT, subject_of
from mediabus.service.outbox import fallback
from mediabus.service.outbox.fallback import DirectPublisher
from mediabus.service.outbox.outbox import WAKE_EVERY, Outbox, open_outbox
from tests.support.servers import NatsServer
from tests.support.stream import event, names

CHANGE = """
WITH op AS (INSERT INTO leases VALUES ($5, gen_random_uuid(), 1) RETURNING name)
SELECT op.*, record_events($1, $2, $3, $4) AS recorded FROM op
"""
INSERT = "INSERT INTO leases VALUES ($1, gen_random_uuid(), 1)"
NO_CHANGE = """
WITH op AS (UPDATE leases SET beat = 2 WHERE name = $5 RETURNING name)
SELECT op.*, record_events($1, $2, $3, $4) AS recorded FROM op
"""
REFUSE = """
CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN RAISE EXCEPTION 'the outbox is broken'; END $$;
CREATE TRIGGER refuse BEFORE INSERT ON outbox EXECUTE FUNCTION refuse();
"""


async def recorded_events(pool: Pool) -> int:
    count: int = await pool.fetchval("SELECT count(*) FROM outbox")
    return count


async def change_count(pool: Pool) -> int:
    count: int = await pool.fetchval("SELECT count(*) FROM leases")
    return count


@pytest.fixture(params=[1, 2])
def count(request: pytest.FixtureRequest) -> int:
    """How many events a change has: PostgreSQL records one and several by different functions."""
    number: int = request.param
    return number


def events(count: int) -> list[Envelope]:
    return [event(f"nth {number}") for number in range(count)]


async def test_a_change_and_its_events_are_recorded_in_one_statement(
    pool: Pool, bus: Bus, count: int
) -> None:
    made = events(count)
    async with open_outbox(pool, bus) as outbox:
        await outbox.perform(CHANGE, "a", events=made)
    assert await change_count(pool) == 1
    rows = await pool.fetch(
        "SELECT id, occurred_at, subject, payload FROM outbox ORDER BY position"
    )
    assert [tuple(row) for row in rows] == [
        (one.id, one.time, subject_of(one), codec.encode(one)) for one in made
    ]


async def test_a_failed_change_records_no_event(pool: Pool, bus: Bus) -> None:
    async with open_outbox(pool, bus) as outbox:
        await outbox.perform(CHANGE, "a", events=[event("one")])
        with pytest.raises(asyncpg.UniqueViolationError):
            await outbox.perform(CHANGE, "a", events=[event("two")])
    assert (await change_count(pool), await recorded_events(pool)) == (1, 1)


async def test_a_statement_that_changes_nothing_records_no_event(pool: Pool, bus: Bus) -> None:
    async with open_outbox(pool, bus) as outbox:
        assert await outbox.perform(NO_CHANGE, "a", events=[event("one")]) == []
    assert await recorded_events(pool) == 0


async def change_and_fail(outbox: Outbox) -> None:
    """Make a change, record its event, then raise."""
    async with outbox.transaction() as work:
        await work.connection.execute(INSERT, "a")
        await work.record(event("one"))
        raise ZeroDivisionError


async def test_events_are_rolled_back_with_their_transaction(pool: Pool, bus: Bus) -> None:
    async with open_outbox(pool, bus) as outbox:
        with pytest.raises(ZeroDivisionError):
            await change_and_fail(outbox)
    assert (await change_count(pool), await recorded_events(pool)) == (0, 0)


async def test_events_appear_only_when_their_transaction_commits(pool: Pool, bus: Bus) -> None:
    async with open_outbox(pool, bus) as outbox:
        async with outbox.transaction() as work:
            await work.record(event("one"))
            assert await recorded_events(pool) == 0
        assert await recorded_events(pool) == 1


async def test_a_change_succeeds_when_its_events_cannot_be_recorded(
    pool: Pool, bus: Bus, count: int
) -> None:
    """In one statement and in a transaction, for changes before and after the events."""
    await pool.execute(REFUSE)
    before = metrics.NOT_RECORDED._value.get()
    async with open_outbox(pool, bus) as outbox:
        await outbox.perform(CHANGE, "a", events=events(count))
        async with outbox.transaction() as work:
            await work.connection.execute(INSERT, "b")
            await work.record(*events(count))
            await work.connection.execute(INSERT, "c")
    assert (await change_count(pool), await recorded_events(pool)) == (3, 0)
    assert await names(bus) == [f"nth {number}" for number in range(count)] * 2
    assert metrics.NOT_RECORDED._value.get() == before + 2 * count


FULL = REFUSE.replace("RAISE EXCEPTION", "RAISE disk_full USING MESSAGE =")


async def test_a_full_disk_fails_the_change_and_its_events(
    pool: Pool, bus: Bus, count: int
) -> None:
    """Both are in one database: an event published from memory could be lost."""
    await pool.execute(FULL)
    async with open_outbox(pool, bus) as outbox:
        with pytest.raises(asyncpg.DiskFullError):
            await outbox.perform(CHANGE, "a", events=events(count))
    assert (await change_count(pool), await recorded_events(pool)) == (0, 0)
    assert await names(bus) == []


async def test_vacuum_does_not_shrink_the_outbox(pool: Pool, bus: Bus) -> None:
    """The space is reused when the disk is full."""
    async with open_outbox(pool, bus) as outbox:
        for name in ("a", "b", "c", "d"):
            await outbox.perform(CHANGE, name, events=[event(f"{name}{nth}") for nth in range(100)])
    had = await pool.fetchval("SELECT pg_relation_size('outbox')")
    await pool.execute("DELETE FROM outbox")
    await pool.execute("VACUUM outbox")
    assert await pool.fetchval("SELECT pg_relation_size('outbox')") == had > 0


async def test_an_unrecorded_event_is_not_published_after_a_rollback(pool: Pool, bus: Bus) -> None:
    await pool.execute(REFUSE)
    async with open_outbox(pool, bus) as outbox:
        with pytest.raises(ZeroDivisionError):
            await change_and_fail(outbox)
    assert await names(bus) == []


async def change_then_record(outbox: Outbox, name: str) -> None:
    async with outbox.transaction() as work:
        await work.connection.execute(INSERT, "b")
        await work.record(event(name))


@pytest.mark.parametrize("name", ["nu\0l", "x" * 1_000_001])
async def test_a_change_with_an_invalid_event_is_rejected_beforehand(
    pool: Pool, bus: Bus, name: str
) -> None:
    async with open_outbox(pool, bus) as outbox:
        with pytest.raises(InvalidEvent):
            await outbox.perform(CHANGE, "a", events=[event("one"), event(name)])
        with pytest.raises(InvalidEvent):
            await change_then_record(outbox, name)
    assert (await change_count(pool), await recorded_events(pool)) == (0, 0)


async def test_many_changes_wake_the_relay_twice(pool: Pool, bus: Bus) -> None:
    wakes = await bus.nc.subscribe(RECORDED_SUBJECT)
    async with open_outbox(pool, bus) as outbox:
        for _ in range(50):
            outbox.committed([])
        for _ in range(2):
            await wakes.next_msg(timeout=5)
        await asyncio.sleep(10 * WAKE_EVERY)
        await bus.nc.flush()
    assert wakes.pending_msgs == 0


async def test_a_change_succeeds_while_nats_is_down(nats: NatsServer, pool: Pool, bus: Bus) -> None:
    nats.stop()
    async with open_outbox(pool, bus) as outbox:
        await outbox.perform(CHANGE, "a", events=[event("one")])
    assert (await change_count(pool), await recorded_events(pool)) == (1, 1)


@contextlib.asynccontextmanager
async def publisher(bus: Bus) -> AsyncIterator[DirectPublisher]:
    direct = DirectPublisher()
    task = asyncio.create_task(direct.run(bus))
    try:
        yield direct
    finally:
        task.cancel()
        await asyncio.wait([task])


async def test_direct_events_wait_for_nats_in_order(nats: NatsServer, bus: Bus) -> None:
    expected = [f"event {number}" for number in range(20)]
    nats.stop()
    async with publisher(bus) as direct:
        direct.publish_soon(event(name) for name in expected)
        await direct.drain(within=0.1)
        await asyncio.to_thread(nats.start)
        await direct.drain(within=20)
    assert await names(bus) == expected


async def test_a_dropped_event_is_logged_in_full_and_counted(
    bus: Bus, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(fallback, "MAX_HELD_EVENTS", 2)
    before = metrics.NOT_MADE._value.get()
    async with publisher(bus) as direct:
        direct.publish_soon(event(name) for name in ("one", "two", "three"))
        await direct.drain(within=10)
    assert await names(bus) == ["one", "two"]
    assert metrics.NOT_MADE._value.get() == before + 1
    assert "event dropped" in caplog.text


async def test_an_invalid_event_does_not_block_the_next(bus: Bus) -> None:
    async with publisher(bus) as direct:
        direct.publish_soon([event("nu\0l"), event("one")])
        await direct.drain(within=10)
    assert await names(bus) == ["one"]


async def test_closing_the_outbox_waits_for_direct_events(pool: Pool, bus: Bus) -> None:
    await pool.execute(REFUSE)
    async with open_outbox(pool, bus) as outbox, outbox.transaction() as work:
        await work.record(*(event(f"event {number}") for number in range(100)))
    assert len(await names(bus)) == 100


async def test_closing_the_outbox_does_not_wait_for_nats(
    nats: NatsServer, pool: Pool, bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mediabus.service.outbox.outbox.DRAIN_WITHIN", 0.2)
    await pool.execute(REFUSE)
    nats.stop()
    async with asyncio.timeout(5), open_outbox(pool, bus) as outbox:
        await outbox.perform(CHANGE, "a", events=[event("one")])
    assert await change_count(pool) == 1
