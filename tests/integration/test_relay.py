"""The relay publishes rows in order, skips none, and deletes none before its event arrived."""

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

from mediabus.consumers.dead_letters import DeadLetters
from mediabus.consumers.persister.run import persist
from mediabus.runtime.nats import streams
from mediabus.runtime.nats.bus import Bus, PublishFailed
from mediabus.runtime.nats.streams import ensure_streams
from mediabus.runtime.postgres.database import Pool
from mediabus.runtime.settings import NatsSettings, PersisterSettings, Settings
from mediabus.schemas.events import JobExecuted
from mediabus.schemas.identity import uuid7
from mediabus.schemas.subjects import EVENTS_STREAM
from mediabus.service.outbox import confirm as confirm_module
from mediabus.service.outbox import cursor as cursor_module
from mediabus.service.outbox import relay as relay_module
from mediabus.service.outbox.confirm import Confirmation
from mediabus.service.outbox.outbox import open_outbox
from mediabus.service.outbox.publish import MAX_BATCH_MESSAGES, Batch, Outgoing
from mediabus.service.outbox.relay import Relay, relay_while_leading
from tests.support.eventually import eventually
from tests.support.library import library
from tests.support.processes import processes
from tests.support.servers import NatsServer
from tests.support.stream import (
    JOB,
    event,
    messages,
    names,
    record,
    record_events,
    transaction,
)

DAY = datetime.timedelta(days=1)


@pytest.fixture
def relay(pool: Pool, bus: Bus) -> Relay:
    """A relay that publishes only when the test calls ``relay_batch``."""
    return Relay(pool, bus, confirm_in_events=True)


@pytest.fixture(autouse=True)
def _move_cursor_in_each_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cursor_module, "MOVE_CURSOR_EVERY", -1)


async def cursor(pool: Pool) -> int:
    position: int = await pool.fetchval("SELECT position FROM outbox_cursor")
    return position


async def outbox_rows(pool: Pool) -> int:
    rows: int = await pool.fetchval("SELECT count(*) FROM outbox")
    return rows


@contextlib.asynccontextmanager
async def running_relay(
    pool: Pool, bus: Bus, *, confirm_in_events: bool = True
) -> AsyncIterator[None]:
    """Run a relay in the background, as the service does."""
    work = relay_while_leading(pool, bus, confirm_in_events=confirm_in_events)
    running = [
        asyncio.create_task(work),
        asyncio.create_task(streams.keep_streams(bus, NatsSettings())),
    ]
    try:
        yield
    finally:
        for task in running:
            task.cancel()
        await asyncio.wait(running)


@contextlib.asynccontextmanager
async def persisting(pool: Pool, bus: Bus) -> AsyncIterator[None]:
    task = asyncio.create_task(persist(bus, pool, PersisterSettings()))
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])


async def test_events_are_relayed_in_position_order(pool: Pool, bus: Bus, relay: Relay) -> None:
    await record(pool, "one", "two")
    await record(pool, "three")
    assert await relay.relay_batch() == 3
    assert await relay.relay_batch() == 0
    assert await names(bus) == ["one", "two", "three"]


async def test_a_position_committed_late_is_not_skipped(pool: Pool, bus: Bus, relay: Relay) -> None:
    async with transaction(pool) as slow:
        await record(slow, "drawn first")
        await record(pool, "committed first")
        for _ in range(3):
            await relay.relay_batch()
        assert await names(bus) == ["committed first"]
        assert await cursor(pool) == 0
    await relay.relay_batch()
    assert await names(bus) == ["committed first", "drawn first"]


async def test_the_newest_transaction_holds_the_cursor(pool: Pool, bus: Bus, relay: Relay) -> None:
    """No transaction has ended since it began, so the ``xmax`` of a snapshot excludes it."""
    await record(pool, "one")
    async with transaction(pool) as slow:
        await record(slow, "two")
        for _ in range(3):
            await relay.relay_batch()
        assert await cursor(pool) < 2
    await relay.relay_batch()
    assert await names(bus) == ["one", "two"]


async def test_the_cursor_passes_no_overlapping_transaction(
    pool: Pool, bus: Bus, relay: Relay
) -> None:
    """Each ends after the next has begun, so at least one is always running."""
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


async def test_the_relay_does_not_wait_for_rolled_back_positions(
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
    """Return whether the cursor is at ``position`` after another pass.

    Any transaction on the server, including those of other tests, may hold it for a while.
    """
    await relay.relay_batch()
    return await cursor(pool) == position


async def test_the_next_relay_resumes_at_the_stored_cursor(
    pool: Pool, bus: Bus, relay: Relay
) -> None:
    """Events published beyond the cursor are published again, and NATS drops the duplicates."""
    await record(pool, "one")
    await record(pool, "two")
    await relay.relay_batch()
    await record(pool, "three")
    async with running_relay(pool, bus):
        await eventually(lambda: relayed(bus, 3))
        await record(pool, "four")
        await eventually(lambda: relayed(bus, 4))
    assert await names(bus) == ["one", "two", "three", "four"]


async def relayed(bus: Bus, count: int) -> bool:
    return (await bus.js.stream_info(EVENTS_STREAM)).state.messages >= count


async def test_many_events_are_published_in_atomic_batches(
    pool: Pool, bus: Bus, relay: Relay
) -> None:
    await record(pool, *(f"event {number}" for number in range(MAX_BATCH_MESSAGES + 2)))
    assert await relay.relay_batch() == MAX_BATCH_MESSAGES
    assert await relay.relay_batch() == 2
    assert await names(bus) == [f"event {number}" for number in range(MAX_BATCH_MESSAGES + 2)]
    batches = {(message.headers or {}).get("Nats-Batch-Id") for message in await messages(bus)}
    assert len(batches) == 2
    assert None not in batches


@pytest.fixture
def _batches_of_two(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cursor_module, "MAX_BATCH_MESSAGES", 2)


FIVE = ["one", "two", "three", "four", "five"]


@pytest.mark.usefixtures("_batches_of_two")
async def test_a_batch_that_is_sent_early_is_stored_at_its_commit(pool: Pool, bus: Bus) -> None:
    relay = Relay(pool, bus, confirm_in_events=False)
    await record(pool, *FIVE)
    sent = bus.nc.stats["out_msgs"]
    assert await relay.relay_batch() == 2
    assert bus.nc.stats["out_msgs"] == sent + 2 + 1  # all but the commit of the next batch
    assert await names(bus) == FIVE[:2]
    assert await relay.confirmation.confirm() == 2
    assert await outbox_rows(pool) == 3
    await eventually(lambda: drained(relay))
    assert await names(bus) == FIVE


async def drained(relay: Relay) -> bool:
    try:
        return await relay.relay_batch() == 0
    except PublishFailed:
        return False


@pytest.mark.usefixtures("_batches_of_two")
async def test_a_prepared_batch_is_not_stored_before_a_failed_one(
    pool: Pool, bus: Bus, relay: Relay
) -> None:
    await record(pool, *FIVE)
    await bus.js.delete_stream(EVENTS_STREAM)
    with pytest.raises(PublishFailed):
        await relay.relay_batch()
    await ensure_streams(bus, NatsSettings())
    await eventually(lambda: drained(relay))
    assert await names(bus) == FIVE


@pytest.mark.usefixtures("_batches_of_two")
async def test_order_survives_nats_killed_before_it_stored_a_batch(
    nats: NatsServer, pool: Pool, bus: Bus, relay: Relay
) -> None:
    await record(pool, *FIVE)
    os.kill(nats.pid, signal.SIGSTOP)  # its sockets accept data that it does not process
    sent = bus.nc.stats["out_msgs"]
    passing = asyncio.create_task(relay.relay_batch())
    await eventually(lambda: bus.nc.stats["out_msgs"] >= sent + 2 + 1)
    nats.kill()
    await asyncio.to_thread(nats.start)
    with pytest.raises(PublishFailed):
        await passing
    await eventually(lambda: drained(relay))
    assert await names(bus) == FIVE


@pytest.mark.usefixtures("_batches_of_two")
@pytest.mark.parametrize("comes_back", ["as it was", "without the first batch"])
async def test_order_survives_nats_killed_between_two_batches(
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


async def test_order_survives_repeated_kills_of_nats_during_a_backlog(
    nats: NatsServer, pool: Pool, bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cursor_module, "MAX_BATCH_MESSAGES", 20)
    backlog = [f"event {number}" for number in range(600)]
    await record(pool, *backlog)
    async with running_relay(pool, bus):
        for stored in (20, 200, 400):
            await eventually(functools.partial(relayed, bus, stored), every=0.005)
            nats.kill()
            await asyncio.to_thread(nats.start)
            await eventually(lambda: bus.is_connected)
        await eventually(lambda: relayed(bus, 600), within=30)
    assert await names(bus) == backlog


async def test_the_cursor_moves_during_a_long_backlog(pool: Pool, relay: Relay) -> None:
    """Each position kept in memory slows down reads, so the cursor must not wait for the end."""
    await record(pool, *(f"event {number}" for number in range(4 * MAX_BATCH_MESSAGES)))
    for _ in range(3):
        assert await relay.relay_batch() == MAX_BATCH_MESSAGES

    async def follows() -> bool:
        """Any transaction on the server, including those of other tests, may hold the cursor."""
        await relay.cursor.move()
        return await cursor(pool) == 3 * MAX_BATCH_MESSAGES

    await eventually(follows)


async def test_a_batch_with_a_known_message_id_is_stored_one_by_one(
    pool: Pool, bus: Bus, relay: Relay
) -> None:
    seen = event("two")
    async with open_outbox(pool, bus) as outbox, outbox.transaction() as work:
        await work.record(event("one"), seen, event("three"))
    await bus.publish_envelope(seen)
    assert await relay.relay_batch() == 3
    assert await names(bus) == ["two", "one", "three"]


async def test_a_lost_connection_during_a_commit_raises_publish_failed(bus: Bus) -> None:
    events = [Outgoing(uuid7(), "events.a.b.c.-", b"{}") for _ in range(2)]
    batch = Batch(bus, events, bus.connection)
    await bus.nc.close()  # as if lost after the connection check
    with pytest.raises(PublishFailed):
        await batch._commit()


async def test_large_events_are_relayed(pool: Pool, bus: Bus, relay: Relay) -> None:
    """They exceed what nats-py buffers while the server is unreachable."""
    large = [f"{number} {'x' * 900_000}" for number in range(24)]
    await record(pool, *large)
    assert await relay.relay_batch() > 0
    await eventually(lambda: relayed_all(relay))
    assert [name.split()[0] for name in await names(bus)] == [str(n) for n in range(24)]


async def relayed_all(relay: Relay) -> bool:
    return await relay.relay_batch() == 0


async def test_a_relay_survives_nats_killed_during_a_batch(
    nats: NatsServer, pool: Pool, bus: Bus
) -> None:
    async with running_relay(pool, bus):
        await record(pool, "one")
        await eventually(lambda: relayed(bus, 1))
        nats.kill()
        await record(pool, *(f"{number} {'x' * 900_000}" for number in range(24)))
        await asyncio.to_thread(nats.start)
        await eventually(lambda: relayed(bus, 25), within=30)
    assert [name.split()[0] for name in await names(bus)] == ["one", *map(str, range(24))]


async def test_a_row_is_deleted_only_when_its_event_has_arrived(
    pool: Pool, bus: Bus, relay: Relay
) -> None:
    await record(pool, "one")
    await relay.relay_batch()
    assert await relay.confirmation.confirm() == 0
    assert await outbox_rows(pool) == 1
    async with persisting(pool, bus):
        await eventually(relay.confirmation.confirm)
    assert await outbox_rows(pool) == 0
    assert await pool.fetchval("SELECT count(*) FROM events") == 1


@pytest.fixture
def _lost_after_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(confirm_module, "LOST_AFTER", 1.0)


@pytest.mark.usefixtures("_lost_after_a_second")
@pytest.mark.parametrize("comes_back", ["an older copy", "nothing"])
async def test_events_that_nats_stored_and_lost_are_published_again(
    nats: NatsServer, pool: Pool, bus: Bus, comes_back: str
) -> None:
    """As after a power cut without fsync, or with a replaced disk."""
    await bus.publish(JobExecuted(job_name="zero"), actor=JOB)
    nats.stop()
    shutil.copytree(nats.directory / "store", nats.directory / "an older copy")
    (nats.directory / "nothing").mkdir()
    await asyncio.to_thread(nats.start)
    await eventually(lambda: bus.is_connected)
    async with running_relay(pool, bus):
        await record(pool, "one", "two")
        await eventually(lambda: relayed(bus, 3))
        nats.kill()
        shutil.rmtree(nats.directory / "store")
        shutil.copytree(nats.directory / comes_back, nats.directory / "store")
        await asyncio.to_thread(nats.start)
        await eventually(lambda: bus.is_connected)
        assert await outbox_rows(pool) == 2
        async with persisting(pool, bus):
            await eventually(lambda: is_empty(pool), within=30)
    before = ["zero"] if comes_back == "an older copy" else []
    assert await names(bus) == [*before, "one", "two"]
    assert await pool.fetchval("SELECT count(*) FROM events") == len(before) + 2


@pytest.mark.parametrize("goes_on", ["the same relay", "another"])
async def test_lost_events_are_republished_before_newer_ones(
    nats: NatsServer, pool: Pool, bus: Bus, relay: Relay, goes_on: str
) -> None:
    """Another relay knows the cursor, but not the events published beyond it."""
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
        relay.cursor.position = await cursor(pool)
    await eventually(lambda: relayed_all(relay))
    assert await names(bus) == ["zero", "one", "two", "three", "four"]


async def test_the_next_relay_does_not_republish_stored_events(
    pool: Pool, bus: Bus, relay: Relay, caplog: pytest.LogCaptureFixture
) -> None:
    """Even if the last event of the stream is newer than the events the cursor has passed."""
    await record(pool, "one")
    await eventually(lambda: moves_to(1, pool, relay))
    async with transaction(pool) as running:  # holds the cursor
        await record(running, "two")
        await record(pool, "three")
        await relay.relay_batch()
        next_relay = Relay(pool, bus, confirm_in_events=True)
        next_relay.cursor.position = await cursor(pool)
        await next_relay.relay_batch()
    assert next_relay.cursor.position == 1
    assert await names(bus) == ["one", "three"]
    assert "events lost" not in caplog.text


async def test_the_stream_is_created_again_after_a_lost_disk(
    nats: NatsServer, pool: Pool, bus: Bus
) -> None:
    async with running_relay(pool, bus):
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
    return await outbox_rows(pool) == 0


@pytest.mark.usefixtures("_lost_after_a_second")
@pytest.mark.parametrize("meanwhile", ["nothing happens", "others come and go"])
async def test_purged_events_are_published_again(pool: Pool, bus: Bus, meanwhile: str) -> None:
    stream = (await bus.js.stream_info(EVENTS_STREAM)).config
    # A purged stream still deduplicates the ids it has seen, until the window ends.
    await bus.js.update_stream(stream.evolve(duplicate_window=1.0))

    async def found() -> bool:
        if meanwhile == "others come and go":
            await record(pool, "other")
        lost = "SELECT count(*) FROM events WHERE data ->> 'job_name' IN ('one', 'two')"
        return bool(await pool.fetchval(lost) == 2)

    async with running_relay(pool, bus):
        await record(pool, "one", "two")
        await eventually(lambda: relayed(bus, 2))
        await bus.js.purge_stream(EVENTS_STREAM)
        async with persisting(pool, bus):
            await eventually(found, within=30, every=0.2)
            await eventually(lambda: is_empty(pool))


async def test_no_event_is_republished_during_a_backlog(
    pool: Pool, bus: Bus, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(confirm_module, "LOST_AFTER", 0.2)
    monkeypatch.setattr(confirm_module, "CONFIRM_AT_LEAST_EVERY", 0.5)
    async with persisting(pool, bus):
        await bus.publish(JobExecuted(job_name="zero"), actor=JOB)
        await eventually(lambda: pool.fetchval("SELECT count(*) FROM events"))
    results = []
    has_read = Confirmation._has_read

    async def recording(self: Confirmation, sequence: int) -> bool:
        results.append(await has_read(self, sequence))
        return results[-1]

    monkeypatch.setattr(Confirmation, "_has_read", recording)
    async with running_relay(pool, bus):
        await record(pool, "one")
        await eventually(lambda: len(results) > 1)
    assert not any(results)
    assert "events lost" not in caplog.text


async def test_dead_lettered_events_are_deleted_from_the_outbox(
    pool: Pool, bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(confirm_module, "LOST_AFTER", 0.5)
    future_event = msgspec.structs.replace(event("of the future"), time=event("").time + 30 * DAY)
    async with running_relay(pool, bus), persisting(pool, bus):
        await record_events(pool, [future_event, event("good")])
        await eventually(lambda: is_empty(pool), within=30)
    [dead_letter] = await DeadLetters(bus).all()
    assert dead_letter.message_id == str(future_event.id)
    stored = await pool.fetch("SELECT data ->> 'job_name' AS name FROM events")
    assert [row["name"] for row in stored] == ["good"]


@pytest.mark.parametrize("confirm_in_events", [True, False])
async def test_an_event_with_a_used_message_id_is_stored(
    pool: Pool, bus: Bus, confirm_in_events: bool
) -> None:
    """JetStream reports a duplicate, which does not confirm the row."""
    events = [event("one"), event("two")]
    taken = {"Nats-Msg-Id": str(events[0].id)}
    await bus.js.publish("events.a.b.c.-", b"{}", headers=taken)
    async with running_relay(pool, bus, confirm_in_events=confirm_in_events), persisting(pool, bus):
        await record_events(pool, events)
        await eventually(lambda: is_empty(pool), within=30)
        await eventually(lambda: pool.fetchval("SELECT count(*) = 2 FROM events"), within=30)


async def test_rows_of_a_restored_outbox_with_known_ids_are_stored(
    pool: Pool, bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The stream has the events and the persister has read past them; ``events`` lacks them."""
    monkeypatch.setattr(confirm_module, "LOST_AFTER", 1.0)
    events = [event("one"), event("two")]
    async with running_relay(pool, bus), persisting(pool, bus):
        await record_events(pool, events)
        await eventually(lambda: is_empty(pool), within=30)
    await pool.execute("DELETE FROM events")
    await record_events(pool, events)
    async with running_relay(pool, bus), persisting(pool, bus):
        await eventually(lambda: is_empty(pool), within=30)
    assert await pool.fetchval("SELECT count(*) FROM events") == 2
    assert len(await messages(bus)) == 4


async def test_a_dead_letter_of_another_message_deletes_no_row(
    pool: Pool, bus: Bus, relay: Relay
) -> None:
    """Any client may publish an invalid message under the id of an event."""
    one = event("one")
    await record_events(pool, [one])
    await eventually(lambda: moves_to(1, pool, relay))
    forged = {"Mediabus-Message-Id": f"{one.id}.retry.1", "Mediabus-Consumer": "persister"}
    await bus.js.publish("dead_letters.persister.invalid", b"no event", headers=forged)
    await relay.confirmation.republish_overdue()
    assert await outbox_rows(pool) == 1


async def test_more_lost_events_than_one_batch_are_all_republished(
    pool: Pool, bus: Bus, relay: Relay, monkeypatch: pytest.MonkeyPatch
) -> None:
    everything = [f"event {number}" for number in range(7)]
    await record(pool, *everything)
    await eventually(lambda: moves_to(7, pool, relay))
    await bus.js.delete_stream(EVENTS_STREAM)
    await ensure_streams(bus, NatsSettings())
    monkeypatch.setattr(cursor_module, "MAX_BATCH_MESSAGES", 2)
    await relay.confirmation.republish_overdue()
    assert await names(bus) == everything


async def test_a_read_is_limited_in_bytes_and_the_next_follows_at_once(
    pool: Pool, bus: Bus, relay: Relay, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cursor_module, "MAX_READ_BYTES", 250_000)
    monkeypatch.setattr(relay_module, "POLL_EVERY", 60.0)
    large = [f"{number} {'x' * 100_000}" for number in range(10)]
    await record(pool, *large)
    assert await relay.relay_batch() == 3
    async with running_relay(pool, bus):
        await eventually(lambda: relayed(bus, 10), within=30)
    assert await names(bus) == large


async def test_rows_are_deleted_on_acknowledgement_with_events_url(
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


async def test_positions_of_deleted_rows_are_not_kept_in_memory(pool: Pool, bus: Bus) -> None:
    """A long transaction holds the cursor, and each read excludes the positions kept in memory."""
    relay = Relay(pool, bus, confirm_in_events=False)
    async with transaction(pool) as running:
        await record(running, "late")
        await record(pool, *["early"] * 10)
        await relay.relay_batch()
        assert await relay.confirmation.confirm() == 10
        assert not relay.cursor.ahead
    await relay.relay_batch()
    assert await names(bus) == ["early"] * 10 + ["late"]


async def test_a_deleted_stream_is_created_again(
    pool: Pool, bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "CHECK_EVERY", 0.5)
    async with running_relay(pool, bus), persisting(pool, bus):
        await record(pool, "one")
        await eventually(lambda: is_empty(pool))
        await bus.js.delete_stream(EVENTS_STREAM)
        await record(pool, "two")
        await eventually(lambda: is_empty(pool), within=30)
    assert await pool.fetchval("SELECT count(*) FROM events") == 2


async def test_a_relay_survives_a_lasting_database_error(settings: Settings, pool: Pool) -> None:
    """Such as a missing grant: operations in the same process must go on."""
    async with library(settings) as user:
        await pool.execute("ALTER TABLE events RENAME COLUMN occurred_at TO happened_at")
        await asyncio.sleep(2)
        item = await user.ask("media.create", {"type": "tv_show", "title": "Dark"})
        await pool.execute("ALTER TABLE events RENAME COLUMN happened_at TO occurred_at")
        stored = "SELECT count(*) FROM events WHERE resource_id = $1"
        await eventually(lambda: pool.fetchval(stored, item["id"]), within=30)


async def test_no_row_is_deleted_without_an_acknowledgement(
    nats: NatsServer, pool: Pool, bus: Bus
) -> None:
    nats.stop()
    await record(pool, "one")
    relay = Relay(pool, bus, confirm_in_events=False)
    with pytest.raises(PublishFailed):
        await relay.relay_batch()
    assert await relay.confirmation.confirm() == 0
    assert await outbox_rows(pool) == 1


async def test_a_recorded_event_wakes_the_relay(
    pool: Pool, bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relay_module, "POLL_EVERY", 60.0)
    async with running_relay(pool, bus), open_outbox(pool, bus) as outbox:
        await record(pool, "zero")
        await eventually(lambda: relayed(bus, 1), within=70)  # it reads once when it starts
        async with outbox.transaction() as work:
            await work.record(event("one"))
        await eventually(lambda: relayed(bus, 2), within=5)


async def test_a_replaced_relay_publishes_nothing_when_it_resumes(
    settings: Settings, pool: Pool, bus: Bus, tmp_path: Path
) -> None:
    with processes(settings, tmp_path, "service", "service") as both:
        await eventually(lambda: any(p.says("lease acquired", lease="relay") for p in both))
        former, standby = sorted(both, key=lambda p: not p.says("lease acquired", lease="relay"))
        await record(pool, "one")
        await eventually(lambda: relayed(bus, 1))
        former.pause()
        await record(pool, "two")
        await eventually(lambda: relayed(bus, 2), within=5)
        assert standby.says("lease acquired", lease="relay")
        former.resume()
        await eventually(lambda: former.says("lease lost"))
        await record(pool, "three")
        await eventually(lambda: relayed(bus, 3))
    assert await names(bus) == ["one", "two", "three"]
