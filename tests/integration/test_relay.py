"""The relay: from the outbox to NATS in order, nothing skipped, and nothing let go too early."""

import asyncio
import contextlib
import datetime
import functools
import os
import shutil
import signal
import time
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import msgspec
import pytest

from consumers.dead_letters import DeadLetters
from consumers.persister.run import persist
from schemas.events import JobExecuted
from schemas.identity import uuid7
from schemas.subjects import EVENTS_STREAM
from service.outbox import leaving, reading
from service.outbox import relay as relaying
from service.outbox.batch import MOST, Batch, Outgoing
from service.outbox.leaving import Leaving
from service.outbox.outbox import RECORD, arguments, open_outbox
from service.outbox.relay import Relay, relay_while_leading
from service.runtime import streams
from service.runtime.bus import Bus, PublishFailed
from service.runtime.database import Pool
from service.runtime.settings import PersisterSettings, Settings
from service.runtime.streams import ensure_streams
from tests.support.eventually import eventually
from tests.support.library import library
from tests.support.processes import processes
from tests.support.servers import NatsServer
from tests.support.stream import JOB, event, messages, names, record, transaction

DAY = datetime.timedelta(days=1)


@pytest.fixture
def relay(pool: Pool, bus: Bus) -> Relay:
    """A relay whose passes the test calls."""
    return Relay(pool, bus, confirm_in_events=True)


@pytest.fixture(autouse=True)
def _looks_at_the_cursor_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "MOVE_CURSOR_EVERY", -1)


async def cursor(pool: Pool) -> int:
    position: int = await pool.fetchval("SELECT position FROM outbox_cursor")
    return position


async def waiting(pool: Pool) -> int:
    rows: int = await pool.fetchval("SELECT count(*) FROM outbox")
    return rows


@contextlib.asynccontextmanager
async def at_work(pool: Pool, bus: Bus, *, confirm_in_events: bool = True) -> AsyncIterator[None]:
    """A relay as it runs in a service."""
    work = relay_while_leading(pool, bus, confirm_in_events=confirm_in_events)
    task = asyncio.create_task(work)
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])


@contextlib.asynccontextmanager
async def persisting(pool: Pool, bus: Bus) -> AsyncIterator[None]:
    task = asyncio.create_task(persist(bus, pool, PersisterSettings()))
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])


async def test_events_are_relayed_in_the_order_of_their_positions(
    pool: Pool, bus: Bus, relay: Relay
) -> None:
    await record(pool, "one", "two")
    await record(pool, "three")
    assert await relay.relay_batch() == 3
    assert await relay.relay_batch() == 0
    assert await names(bus) == ["one", "two", "three"]


async def test_a_position_that_commits_late_is_not_skipped(
    pool: Pool, bus: Bus, relay: Relay
) -> None:
    async with transaction(pool) as slow:
        await record(slow, "drawn first")
        await record(pool, "committed first")
        for _ in range(3):
            await relay.relay_batch()
        assert await names(bus) == ["committed first"]
        assert await cursor(pool) == 0
    await relay.relay_batch()
    assert await names(bus) == ["committed first", "drawn first"]


async def test_the_newest_of_all_transactions_holds_the_cursor_too(
    pool: Pool, bus: Bus, relay: Relay
) -> None:
    """None has ended since it began, so a snapshot's ``xmax`` does not count it as begun."""
    await record(pool, "one")
    async with transaction(pool) as slow:
        await record(slow, "two")
        for _ in range(3):
            await relay.relay_batch()
        assert await cursor(pool) < 2
    await relay.relay_batch()
    assert await names(bus) == ["one", "two"]


async def test_of_transactions_that_overlap_none_is_passed(
    pool: Pool, bus: Bus, relay: Relay
) -> None:
    """Each ends only after the next has begun, so at no moment is there none."""
    expected = []
    async with contextlib.AsyncExitStack() as running:
        for number in range(12):
            expected.append(f"event {number}")
            following = contextlib.AsyncExitStack()
            connection = await following.enter_async_context(transaction(pool))
            await record(connection, expected[-1])
            await relay.relay_batch()
            await running.aclose()
            running = await running.enter_async_context(following)  # noqa: PLW2901
    await eventually(lambda: moves_to(12, pool, relay))
    assert await names(bus) == expected


async def test_what_is_rolled_back_leaves_a_gap_that_nobody_waits_for(
    pool: Pool, bus: Bus, relay: Relay
) -> None:
    await record(pool, "one")
    with contextlib.suppress(ZeroDivisionError):
        async with transaction(pool) as connection:
            await record(connection, "never")
            raise ZeroDivisionError
    await record(pool, "three")
    await eventually(lambda: moves_to(3, pool, relay))
    assert await names(bus) == ["one", "three"]


async def moves_to(position: int, pool: Pool, relay: Relay) -> bool:
    """Whether the cursor is there after another pass. Any transaction on the server, of other
    tests too, may keep it for a while."""
    await relay.relay_batch()
    return await cursor(pool) == position


async def test_the_next_relay_goes_on_where_the_last_one_was(
    pool: Pool, bus: Bus, relay: Relay
) -> None:
    """What it published beyond the cursor is published again, and dropped there as seen."""
    await record(pool, "one")
    await record(pool, "two")
    await relay.relay_batch()
    await record(pool, "three")
    async with at_work(pool, bus):
        await eventually(lambda: relayed(bus, 3))
        await record(pool, "four")
        await eventually(lambda: relayed(bus, 4))
    assert await names(bus) == ["one", "two", "three", "four"]


async def relayed(bus: Bus, count: int) -> bool:
    return (await bus.js.stream_info(EVENTS_STREAM)).state.messages >= count


async def test_many_go_in_atomic_batches(pool: Pool, bus: Bus, relay: Relay) -> None:
    await record(pool, *(f"event {number}" for number in range(MOST + 2)))
    assert await relay.relay_batch() == MOST
    assert await relay.relay_batch() == 2
    assert await names(bus) == [f"event {number}" for number in range(MOST + 2)]
    batches = {(message.headers or {}).get("Nats-Batch-Id") for message in await messages(bus)}
    assert len(batches) == 2
    assert None not in batches


@pytest.fixture
def _two_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "MOST", 2)


FIVE = ["one", "two", "three", "four", "five"]


@pytest.mark.usefixtures("_two_at_a_time")
async def test_the_next_batch_is_sent_while_one_is_stored_and_counts_for_nothing_yet(
    pool: Pool, bus: Bus
) -> None:
    relay = Relay(pool, bus, confirm_in_events=False)
    await record(pool, *FIVE)
    sent = bus.nc.stats["out_msgs"]
    assert await relay.relay_batch() == 2
    assert bus.nc.stats["out_msgs"] == sent + 2 + 1  # the commit of the next one is missing
    assert await names(bus) == FIVE[:2]
    assert await relay.leaving.confirm() == 2
    assert await waiting(pool) == 3
    await eventually(lambda: drained(relay))
    assert await names(bus) == FIVE


async def drained(relay: Relay) -> bool:
    try:
        return await relay.relay_batch() == 0
    except PublishFailed:
        return False


@pytest.mark.usefixtures("_two_at_a_time")
async def test_what_was_sent_after_a_batch_that_failed_is_not_stored_before_it(
    pool: Pool, bus: Bus, relay: Relay
) -> None:
    await record(pool, *FIVE)
    await bus.js.delete_stream(EVENTS_STREAM)
    with pytest.raises(PublishFailed):
        await relay.relay_batch()
    await ensure_streams(bus, bus.settings)
    await eventually(lambda: drained(relay))
    assert await names(bus) == FIVE


@pytest.mark.usefixtures("_two_at_a_time")
async def test_nats_is_killed_with_one_batch_to_store_and_the_next_one_sent(
    nats: NatsServer, pool: Pool, bus: Bus, relay: Relay
) -> None:
    await record(pool, *FIVE)
    os.kill(nats.pid, signal.SIGSTOP)  # it takes what is sent, and does nothing with it
    sent = bus.nc.stats["out_msgs"]
    passing = asyncio.create_task(relay.relay_batch())
    await eventually(lambda: bus.nc.stats["out_msgs"] >= sent + 2 + 1)
    nats.kill()
    await asyncio.to_thread(nats.start)
    with pytest.raises(PublishFailed):
        await passing
    await eventually(lambda: drained(relay))
    assert await names(bus) == FIVE


@pytest.mark.usefixtures("_two_at_a_time")
@pytest.mark.parametrize("comes_back", ["as it was", "without the first batch"])
async def test_nats_is_killed_between_a_batch_and_the_next_one_that_was_sent(
    nats: NatsServer, pool: Pool, bus: Bus, relay: Relay, comes_back: str
) -> None:
    nats.stop()
    shutil.copytree(nats.directory / "store", nats.directory / "an older copy")
    await asyncio.to_thread(nats.start)
    await eventually(lambda: bus.is_connected)
    await record(pool, *FIVE)
    assert await relay.relay_batch() == 2
    nats.kill()
    if comes_back == "without the first batch":
        shutil.rmtree(nats.directory / "store")
        shutil.move(nats.directory / "an older copy", nats.directory / "store")
    await asyncio.to_thread(nats.start)
    await eventually(lambda: bus.is_connected)
    await eventually(lambda: drained(relay))
    assert await names(bus) == FIVE


async def test_nats_is_killed_again_and_again_under_a_long_backlog(
    nats: NatsServer, pool: Pool, bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "MOST", 20)
    backlog = [f"event {number}" for number in range(600)]
    await record(pool, *backlog)
    async with at_work(pool, bus):
        for stored in (20, 200, 400):
            await eventually(functools.partial(relayed, bus, stored), every=0.005)
            nats.kill()
            await asyncio.to_thread(nats.start)
            await eventually(lambda: bus.is_connected)
        await eventually(lambda: relayed(bus, 600), within=30)
    assert await names(bus) == backlog


async def test_the_cursor_follows_through_a_long_backlog(pool: Pool, relay: Relay) -> None:
    """What is remembered beyond it makes each read slower, so it must not wait for the end."""
    await record(pool, *(f"event {number}" for number in range(4 * MOST)))
    for _ in range(3):
        assert await relay.relay_batch() == MOST

    async def follows() -> bool:
        """Any transaction on the server, of other tests too, may keep it for a while."""
        await relay.reading.move_cursor()
        return await cursor(pool) == 3 * MOST

    await eventually(follows)


async def test_a_batch_with_an_id_that_the_server_has_seen_is_stored_one_by_one(
    pool: Pool, bus: Bus, relay: Relay
) -> None:
    seen = event("two")
    async with open_outbox(pool, bus) as outbox, outbox.transaction() as work:
        await work.record(event("one"), seen, event("three"))
    await bus.publish_envelope(seen)
    assert await relay.relay_batch() == 3
    assert await names(bus) == ["two", "one", "three"]


async def test_a_batch_that_is_cut_off_fails_as_one_that_can_be_tried_again(bus: Bus) -> None:
    events = [Outgoing(uuid7(), "events.a.b.c.-", b"{}") for _ in range(2)]
    batch = Batch(bus, events, bus.connection)
    await bus.nc.close()  # as it were between the look whether it is open and the batch
    with pytest.raises(PublishFailed):
        await batch._commit()


async def test_large_events_are_relayed(pool: Pool, bus: Bus, relay: Relay) -> None:
    """More of them than a connection holds back while the server is away."""
    large = [f"{number} {'x' * 900_000}" for number in range(24)]
    await record(pool, *large)
    assert await relay.relay_batch() > 0
    await eventually(lambda: relayed_all(relay))
    assert [name.split()[0] for name in await names(bus)] == [str(n) for n in range(24)]


async def relayed_all(relay: Relay) -> bool:
    return await relay.relay_batch() == 0


async def test_a_relay_survives_that_nats_goes_away_under_a_batch(
    nats: NatsServer, pool: Pool, bus: Bus
) -> None:
    async with at_work(pool, bus):
        await record(pool, "one")
        await eventually(lambda: relayed(bus, 1))
        nats.kill()
        await record(pool, *(f"{number} {'x' * 900_000}" for number in range(24)))
        await asyncio.to_thread(nats.start)
        await eventually(lambda: relayed(bus, 25), within=30)
    assert [name.split()[0] for name in await names(bus)] == ["one", *map(str, range(24))]


async def test_a_row_leaves_only_when_its_event_has_arrived(
    pool: Pool, bus: Bus, relay: Relay
) -> None:
    await record(pool, "one")
    await relay.relay_batch()
    assert await relay.leaving.confirm() == 0
    assert await waiting(pool) == 1
    async with persisting(pool, bus):
        await eventually(relay.leaving.confirm)
    assert await waiting(pool) == 0
    assert await pool.fetchval("SELECT count(*) FROM events") == 1


@pytest.fixture
def _lost_after_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leaving, "LOST_AFTER", 1.0)


@pytest.mark.usefixtures("_lost_after_a_second")
@pytest.mark.parametrize("comes_back", ["an older copy", "nothing"])
async def test_what_nats_stored_and_lost_is_published_again(
    nats: NatsServer, pool: Pool, bus: Bus, comes_back: str
) -> None:
    """As after a power cut without fsync, or with another disk in the place of the old one."""
    await bus.publish(JobExecuted(job_name="zero"), actor=JOB)
    nats.stop()
    shutil.copytree(nats.directory / "store", nats.directory / "an older copy")
    (nats.directory / "nothing").mkdir()
    await asyncio.to_thread(nats.start)
    await eventually(lambda: bus.is_connected)
    async with at_work(pool, bus):
        await record(pool, "one", "two")
        await eventually(lambda: relayed(bus, 3))
        nats.kill()
        shutil.rmtree(nats.directory / "store")
        shutil.copytree(nats.directory / comes_back, nats.directory / "store")
        await asyncio.to_thread(nats.start)
        await eventually(lambda: bus.is_connected)
        assert await waiting(pool) == 2
        async with persisting(pool, bus):
            await eventually(lambda: is_empty(pool), within=30)
    before = ["zero"] if comes_back == "an older copy" else []
    assert await names(bus) == [*before, "one", "two"]
    assert await pool.fetchval("SELECT count(*) FROM events") == len(before) + 2


@pytest.mark.parametrize("goes_on", ["the same relay", "another"])
async def test_what_nats_lost_is_not_overtaken_by_what_comes_later(
    nats: NatsServer, pool: Pool, bus: Bus, relay: Relay, goes_on: str
) -> None:
    """Another relay knows the cursor only, and not what was published beyond it."""
    await bus.publish(JobExecuted(job_name="zero"), actor=JOB)
    nats.stop()
    shutil.copytree(nats.directory / "store", nats.directory / "an older copy")
    await asyncio.to_thread(nats.start)
    await eventually(lambda: bus.is_connected)
    await record(pool, "one", "two")
    await eventually(lambda: moves_to(2, pool, relay))
    await record(pool, "three")
    assert await relay.relay_batch() == 1
    nats.kill()
    shutil.rmtree(nats.directory / "store")
    shutil.copytree(nats.directory / "an older copy", nats.directory / "store")
    await record(pool, "four")
    await asyncio.to_thread(nats.start)
    await eventually(lambda: bus.is_connected)
    if goes_on == "another":
        relay = Relay(pool, bus, confirm_in_events=True)
        relay.reading.cursor = await cursor(pool)
    await eventually(lambda: relayed_all(relay))
    assert await names(bus) == ["zero", "one", "two", "three", "four"]


async def test_what_nats_has_is_not_published_again_by_the_next_relay(
    pool: Pool, bus: Bus, relay: Relay, caplog: pytest.LogCaptureFixture
) -> None:
    """Though what it finds in the stream is newer than what the cursor has passed."""
    await record(pool, "one")
    await eventually(lambda: moves_to(1, pool, relay))
    async with transaction(pool) as running:  # holds the cursor
        await record(running, "two")
        await record(pool, "three")
        await relay.relay_batch()
        next_relay = Relay(pool, bus, confirm_in_events=True)
        next_relay.reading.cursor = await cursor(pool)
        await next_relay.relay_batch()
    assert next_relay.reading.cursor == 1
    assert await names(bus) == ["one", "three"]
    assert "lost events" not in caplog.text


async def test_a_server_that_lost_its_disk_is_given_its_stream_again(
    nats: NatsServer, pool: Pool, bus: Bus
) -> None:
    async with at_work(pool, bus):
        await record(pool, "zero")
        await eventually(lambda: relayed(bus, 1))
        nats.kill()
        shutil.rmtree(nats.directory / "store")
        await record(pool, "one")
        await asyncio.to_thread(nats.start)
        await eventually(lambda: has_stream(bus), within=20)
        await eventually(lambda: relayed(bus, 2), within=20)
    assert await names(bus) == ["zero", "one"]


async def has_stream(bus: Bus) -> bool:
    return bus.is_connected and bool(await bus.js.streams_info())


async def is_empty(pool: Pool) -> bool:
    return await waiting(pool) == 0


@pytest.mark.usefixtures("_lost_after_a_second")
@pytest.mark.parametrize("meanwhile", ["nothing happens", "others come and go"])
async def test_what_was_purged_before_the_persister_read_it_is_published_again(
    pool: Pool, bus: Bus, meanwhile: str
) -> None:
    stream = (await bus.js.stream_info(EVENTS_STREAM)).config
    # A purged stream still knows the ids that it saw, until the window ends.
    await bus.js.update_stream(stream.evolve(duplicate_window=1.0))

    async def found() -> bool:
        if meanwhile == "others come and go":
            await record(pool, "other")
        lost = "SELECT count(*) FROM events WHERE data ->> 'job_name' IN ('one', 'two')"
        return bool(await pool.fetchval(lost) == 2)

    async with at_work(pool, bus):
        await record(pool, "one", "two")
        await eventually(lambda: relayed(bus, 2))
        await bus.js.purge_stream(EVENTS_STREAM)
        async with persisting(pool, bus):
            await eventually(found, within=30, every=0.2)
            await eventually(lambda: is_empty(pool))


async def test_nothing_is_published_again_while_the_persister_has_not_read_everything(
    pool: Pool, bus: Bus, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(leaving, "LOST_AFTER", 0.2)
    monkeypatch.setattr(leaving, "CONFIRM_AT_LEAST_EVERY", 0.5)
    async with persisting(pool, bus):
        await bus.publish(JobExecuted(job_name="zero"), actor=JOB)
        await eventually(lambda: pool.fetchval("SELECT count(*) FROM events"))
    asked = []
    has_read = Leaving._has_read

    async def asking(self: Leaving, sequence: int) -> bool:
        asked.append(await has_read(self, sequence))
        return asked[-1]

    monkeypatch.setattr(Leaving, "_has_read", asking)
    async with at_work(pool, bus):
        await record(pool, "one")
        await eventually(lambda: len(asked) > 1)
    assert not any(asked)
    assert "lost events" not in caplog.text


async def test_what_the_persister_buries_leaves_the_outbox_for_the_dead_letters(
    pool: Pool, bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leaving, "LOST_AFTER", 0.5)
    too_new = msgspec.structs.replace(event("of the future"), time=event("").time + 30 * DAY)
    async with at_work(pool, bus), persisting(pool, bus):
        await pool.execute(RECORD, *arguments([too_new, event("good")]))
        await eventually(lambda: is_empty(pool), within=30)
    [letter] = await DeadLetters(bus).all()
    assert letter.message_id == str(too_new.id)
    stored = await pool.fetch("SELECT data ->> 'job_name' AS name FROM events")
    assert [row["name"] for row in stored] == ["good"]


async def test_all_that_is_lost_is_published_again_however_much_it_is(
    pool: Pool, bus: Bus, relay: Relay, monkeypatch: pytest.MonkeyPatch
) -> None:
    everything = [f"event {number}" for number in range(7)]
    await record(pool, *everything)
    await eventually(lambda: moves_to(7, pool, relay))
    await bus.js.delete_stream(EVENTS_STREAM)
    await ensure_streams(bus, bus.settings)
    monkeypatch.setattr(reading, "MOST", 2)
    await relay.leaving.see_to_overdue()
    assert await names(bus) == everything


async def test_a_read_is_bounded_in_bytes_and_goes_on_at_once(
    pool: Pool, bus: Bus, relay: Relay, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "MOST_BYTES", 250_000)
    monkeypatch.setattr(relaying, "POLL_EVERY", 60.0)
    large = [f"{number} {'x' * 100_000}" for number in range(10)]
    await record(pool, *large)
    assert await relay.relay_batch() == 3
    async with at_work(pool, bus):
        await eventually(lambda: relayed(bus, 10), within=30)
    assert await names(bus) == large


async def test_events_kept_in_another_database_are_let_go_when_nats_has_them(
    settings: Settings, pool: Pool
) -> None:
    name = f"events_{time.monotonic_ns()}"
    await pool.execute(f"CREATE DATABASE {name} TEMPLATE mediabus_template")
    url = f"{(settings.database.url or '').rpartition('/')[0]}/{name}"
    apart = msgspec.structs.replace(
        settings, database=msgspec.structs.replace(settings.database, events_url=url)
    )
    try:
        async with library(apart) as user:
            item = await user.ask("media.create", {"type": "tv_show", "title": "Dark"})
            await eventually(lambda: is_empty(pool))
            there = await asyncpg.connect(url)
            try:
                kept = "SELECT count(*) FROM events WHERE resource_id = $1"
                await eventually(lambda: there.fetchval(kept, item["id"]))
            finally:
                await there.close()
        assert await pool.fetchval("SELECT count(*) FROM events") == 0
    finally:
        await pool.execute(f"DROP DATABASE {name} WITH (FORCE)")


async def test_what_was_let_go_is_not_remembered_while_the_cursor_cannot_move(
    pool: Pool, bus: Bus
) -> None:
    """A long transaction holds it; each read has to leave out what is remembered."""
    relay = Relay(pool, bus, confirm_in_events=False)
    async with transaction(pool) as running:
        await record(running, "late")
        await record(pool, *["early"] * 10)
        await relay.relay_batch()
        assert await relay.leaving.confirm() == 10
        assert not relay.reading.ahead
    await relay.relay_batch()
    assert await names(bus) == ["early"] * 10 + ["late"]


async def test_a_stream_that_somebody_deleted_is_made_anew(
    pool: Pool, bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "LOOK_AGAIN_EVERY", 0.5)
    async with at_work(pool, bus), persisting(pool, bus):
        await record(pool, "one")
        await eventually(lambda: is_empty(pool))
        await bus.js.delete_stream(EVENTS_STREAM)
        await record(pool, "two")
        await eventually(lambda: is_empty(pool), within=30)
    assert await pool.fetchval("SELECT count(*) FROM events") == 2


async def test_a_relay_outlives_a_fault_of_the_database_that_lasts(
    settings: Settings, pool: Pool
) -> None:
    """A missing grant, say: it must not take the operations with it, which are in its process."""
    async with library(settings) as user:
        await pool.execute("ALTER TABLE events RENAME COLUMN occurred_at TO happened_at")
        await asyncio.sleep(2)
        item = await user.ask("media.create", {"type": "tv_show", "title": "Dark"})
        await pool.execute("ALTER TABLE events RENAME COLUMN happened_at TO occurred_at")
        stored = "SELECT count(*) FROM events WHERE resource_id = $1"
        await eventually(lambda: pool.fetchval(stored, item["id"]), within=30)


async def test_without_nats_no_row_is_let_go_even_where_its_arrival_is_not_waited_for(
    nats: NatsServer, pool: Pool, bus: Bus
) -> None:
    nats.stop()
    await record(pool, "one")
    relay = Relay(pool, bus, confirm_in_events=False)
    with pytest.raises(PublishFailed):
        await relay.relay_batch()
    assert await relay.leaving.confirm() == 0
    assert await waiting(pool) == 1


async def test_a_relay_is_woken_and_need_not_look(
    pool: Pool, bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relaying, "POLL_EVERY", 60.0)
    async with at_work(pool, bus), open_outbox(pool, bus) as outbox:
        await record(pool, "zero")
        await eventually(lambda: relayed(bus, 1), within=70)  # it looks once when it begins
        async with outbox.transaction() as work:
            await work.record(event("one"))
        await eventually(lambda: relayed(bus, 2), within=5)


async def test_a_relay_that_stands_still_is_relieved_and_disturbs_nothing_when_it_goes_on(
    settings: Settings, pool: Pool, bus: Bus, tmp_path: Path
) -> None:
    with processes(settings, tmp_path, "service", "service") as both:
        await eventually(lambda: any(p.says("leading", lease="relay") for p in both))
        former, standby = sorted(both, key=lambda p: not p.says("leading", lease="relay"))
        await record(pool, "one")
        await eventually(lambda: relayed(bus, 1))
        former.pause()
        await record(pool, "two")
        await eventually(lambda: relayed(bus, 2), within=5)
        assert standby.says("leading", lease="relay")
        former.resume()
        await eventually(lambda: former.says("lease lost"))
        await record(pool, "three")
        await eventually(lambda: relayed(bus, 3))
    assert await names(bus) == ["one", "two", "three"]
