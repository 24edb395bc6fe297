"""The outbox: an event is recorded with its change or not at all, and never costs the change."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import asyncpg
import pytest

from service.outbox import direct as publishing
from service.outbox.direct import DirectPublisher
from service.outbox.outbox import RECORDED_SUBJECT, WAKE_EVERY, Outbox, open_outbox
from service.runtime import metrics
from service.runtime.bus import Bus
from service.runtime.database import Pool
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


async def recorded(pool: Pool) -> int:
    count: int = await pool.fetchval("SELECT count(*) FROM outbox")
    return count


async def changed(pool: Pool) -> int:
    count: int = await pool.fetchval("SELECT count(*) FROM leases")
    return count


async def test_a_change_and_its_events_are_one_statement(pool: Pool, bus: Bus) -> None:
    async with open_outbox(pool, bus) as outbox:
        await outbox.perform(CHANGE, "a", events=[event("one"), event("two")])
    assert (await changed(pool), await recorded(pool)) == (1, 2)


async def test_a_change_that_fails_takes_its_event_with_it(pool: Pool, bus: Bus) -> None:
    async with open_outbox(pool, bus) as outbox:
        await outbox.perform(CHANGE, "a", events=[event("one")])
        with pytest.raises(asyncpg.UniqueViolationError):
            await outbox.perform(CHANGE, "a", events=[event("two")])
    assert (await changed(pool), await recorded(pool)) == (1, 1)


async def test_where_nothing_changes_nothing_is_told(pool: Pool, bus: Bus) -> None:
    async with open_outbox(pool, bus) as outbox:
        assert await outbox.perform(NO_CHANGE, "a", events=[event("one")]) == []
    assert await recorded(pool) == 0


async def undone(outbox: Outbox) -> None:
    """A change and its event, and then a fault."""
    async with outbox.transaction() as work:
        await work.connection.execute(INSERT, "a")
        await work.record(event("one"))
        raise ZeroDivisionError


async def test_events_are_rolled_back_with_their_transaction(pool: Pool, bus: Bus) -> None:
    async with open_outbox(pool, bus) as outbox:
        with pytest.raises(ZeroDivisionError):
            await undone(outbox)
    assert (await changed(pool), await recorded(pool)) == (0, 0)


async def test_events_appear_only_when_their_transaction_commits(pool: Pool, bus: Bus) -> None:
    async with open_outbox(pool, bus) as outbox:
        async with outbox.transaction() as work:
            await work.record(event("one"))
            assert await recorded(pool) == 0
        assert await recorded(pool) == 1


async def test_an_outbox_that_refuses_costs_the_change_nothing(pool: Pool, bus: Bus) -> None:
    """In one statement and in a transaction, before the event and after it."""
    await pool.execute(REFUSE)
    before = metrics.NOT_RECORDED._value.get()
    async with open_outbox(pool, bus) as outbox:
        await outbox.perform(CHANGE, "a", events=[event("one")])
        async with outbox.transaction() as work:
            await work.connection.execute(INSERT, "b")
            await work.record(event("two"), event("three"))
            await work.connection.execute(INSERT, "c")
    assert (await changed(pool), await recorded(pool)) == (3, 0)
    assert await names(bus) == ["one", "two", "three"]
    assert metrics.NOT_RECORDED._value.get() == before + 3


FULL = REFUSE.replace("RAISE EXCEPTION", "RAISE disk_full USING MESSAGE =")


async def test_where_the_disk_is_full_the_change_fails_with_its_event(pool: Pool, bus: Bus) -> None:
    """Both are in the same database: an event that left from memory could be lost."""
    await pool.execute(FULL)
    async with open_outbox(pool, bus) as outbox:
        with pytest.raises(asyncpg.DiskFullError):
            await outbox.perform(CHANGE, "a", events=[event("one")])
    assert (await changed(pool), await recorded(pool)) == (0, 0)
    assert await names(bus) == []


async def test_the_outbox_keeps_the_room_that_it_once_had(pool: Pool, bus: Bus) -> None:
    """So that its events find some where the disk is full."""
    async with open_outbox(pool, bus) as outbox:
        for name in ("a", "b", "c", "d"):
            await outbox.perform(CHANGE, name, events=[event(f"{name}{nth}") for nth in range(100)])
    had = await pool.fetchval("SELECT pg_relation_size('outbox')")
    await pool.execute("DELETE FROM outbox")
    await pool.execute("VACUUM outbox")
    assert await pool.fetchval("SELECT pg_relation_size('outbox')") == had > 0


async def test_what_the_outbox_refused_is_not_published_when_its_change_is_undone(
    pool: Pool, bus: Bus
) -> None:
    await pool.execute(REFUSE)
    async with open_outbox(pool, bus) as outbox:
        with pytest.raises(ZeroDivisionError):
            await undone(outbox)
    assert await names(bus) == []


async def test_an_event_that_nobody_could_store_costs_the_change_nothing(
    pool: Pool, bus: Bus, caplog: pytest.LogCaptureFixture
) -> None:
    before = metrics.NOT_MADE._value.get()
    async with open_outbox(pool, bus) as outbox:
        await outbox.perform(CHANGE, "a", events=[event("nu\0l"), event("one")])
        await outbox.perform(CHANGE, "b", events=[event("x" * 1_000_001)])
    assert (await changed(pool), await recorded(pool)) == (2, 1)
    assert metrics.NOT_MADE._value.get() == before + 2
    assert "event not made" in caplog.text


async def test_many_changes_wake_the_relay_at_once_and_once_more(pool: Pool, bus: Bus) -> None:
    wakes = await bus.nc.subscribe(RECORDED_SUBJECT)
    async with open_outbox(pool, bus) as outbox:
        for _ in range(50):
            outbox.committed([])
        for _ in range(2):
            await wakes.next_msg(timeout=5)
        await asyncio.sleep(10 * WAKE_EVERY)
        await bus.nc.flush()
    assert wakes.pending_msgs == 0


async def test_a_change_is_made_while_nats_is_away(nats: NatsServer, pool: Pool, bus: Bus) -> None:
    nats.stop()
    async with open_outbox(pool, bus) as outbox:
        await outbox.perform(CHANGE, "a", events=[event("one")])
    assert (await changed(pool), await recorded(pool)) == (1, 1)


@contextlib.asynccontextmanager
async def publisher(bus: Bus) -> AsyncIterator[DirectPublisher]:
    direct = DirectPublisher()
    task = asyncio.create_task(direct.run(bus))
    try:
        yield direct
    finally:
        task.cancel()
        await asyncio.wait([task])


async def test_what_goes_past_the_outbox_waits_for_nats_and_keeps_its_order(
    nats: NatsServer, bus: Bus
) -> None:
    expected = [f"event {number}" for number in range(20)]
    nats.stop()
    async with publisher(bus) as direct:
        direct.publish_soon(event(name) for name in expected)
        await direct.drain(within=0.1)
        await asyncio.to_thread(nats.start)
        await direct.drain(within=20)
    assert await names(bus) == expected


async def test_what_cannot_even_be_held_is_logged_whole_and_counted(
    bus: Bus, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(publishing, "MOST_HELD", 2)
    before = metrics.NOT_MADE._value.get()
    async with publisher(bus) as direct:
        direct.publish_soon(event(name) for name in ("one", "two", "three"))
        await direct.drain(within=10)
    assert await names(bus) == ["one", "two"]
    assert metrics.NOT_MADE._value.get() == before + 1
    assert "event dropped" in caplog.text


async def test_one_that_cannot_be_published_does_not_hold_up_the_next(bus: Bus) -> None:
    async with publisher(bus) as direct:
        direct.publish_soon([event("nu\0l"), event("one")])
        await direct.drain(within=10)
    assert await names(bus) == ["one"]


async def test_leaving_waits_for_what_is_on_its_way(pool: Pool, bus: Bus) -> None:
    await pool.execute(REFUSE)
    async with open_outbox(pool, bus) as outbox, outbox.transaction() as work:
        await work.record(*(event(f"event {number}") for number in range(100)))
    assert len(await names(bus)) == 100


async def test_a_bus_that_is_away_does_not_keep_the_process_from_leaving(
    nats: NatsServer, pool: Pool, bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.outbox.outbox.DRAIN_WITHIN", 0.2)
    await pool.execute(REFUSE)
    nats.stop()
    async with asyncio.timeout(5), open_outbox(pool, bus) as outbox:
        await outbox.perform(CHANGE, "a", events=[event("one")])
    assert await changed(pool) == 1
