"""Large batches are stored by COPY, with the same result as by INSERT."""

import asyncio
import datetime
import random
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

from mediabus.consumers.event_row import COLUMNS, EventRow
from mediabus.consumers.persister import store as store_module
from mediabus.consumers.persister.store import COPY_FROM, EventStore
from mediabus.consumers.verdict import Rejected
from mediabus.runtime.postgres.database import Pool
from mediabus.schemas import codec
from mediabus.schemas.docs.examples import example
from mediabus.schemas.envelope import Envelope
from mediabus.schemas.events import EVENT_TYPES, JobExecuted
from mediabus.schemas.identity import Actor, uuid7
from tests.support.cloud_events import SPECIFICATION
from tests.support.history import rows

NOW = datetime.datetime.now(datetime.UTC)
BINARY = {"ce-specversion": "1.0", "ce-id": "b", "ce-source": "/s", "ce-type": "my.own"}
REFUSE = """
CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN
    IF NEW.data ->> 'job_name' = 'bad' THEN RAISE 'not that one'; END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER refuse BEFORE INSERT ON events FOR EACH ROW EXECUTE FUNCTION refuse();
"""


def row(payload: bytes, number: int, headers: dict[str, str] | None = None) -> EventRow:
    return EventRow.decode(
        payload, headers, number, published_at=lambda: NOW, trust_actor=number % 2 == 0
    )


def job(name: str, number: int) -> EventRow:
    event = JobExecuted(job_name=name, duration_ms=number)
    return EventRow.of(Envelope.of(event, actor=Actor("job", "nightly")), number)


def batch(size: int = COPY_FROM) -> list[EventRow]:
    return [job("scan", number) for number in range(1, size + 1)]


def every_kind() -> Iterator[EventRow]:
    """Events of every type and form, and values that each encoding writes in its own way."""
    examples = [example(event_class) for event_class in EVENT_TYPES.values()]
    payloads = [codec.encode(msgspec.structs.replace(one, id=uuid7())) for one in examples]
    for name, document in SPECIFICATION.items():
        payloads.append(msgspec.json.encode(document | {"time": NOW, "id": name}))
    strange = 'tab\t quote" backslash\\ line\n {} \\N \\x41 NULL é 🎬'
    values: list[Any] = [strange, 0.1, 1e300, -0.0, 2**70, [], {}, None]
    for value in values:
        document = {"specversion": "1.0", "id": str(uuid7()), "type": "a.b"}
        document |= {"source": strange, "time": NOW, "data": {strange: value}}
        payloads.append(msgspec.json.encode(document | {"note": strange, "flag": True}))
    for number, payload in enumerate(payloads, start=1):
        yield row(payload, number)
    moment = NOW.isoformat()
    yield row(b"\x00\xff\\x", 1001, BINARY | {"ce-time": moment, "content-type": "a/b"})


async def test_rows_are_the_same_by_copy_and_by_insert(
    pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    events = list(every_kind())
    monkeypatch.setattr(store_module, "COPY_FROM", 1)
    copied = EventStore(pool)
    assert set(await copied.store(events)) == {None}
    assert copied._no_copy_until == 0, "COPY failed"
    by_copy = await rows(pool)
    await pool.execute("TRUNCATE events")
    monkeypatch.setattr(store_module, "COPY_FROM", len(events) + 1)
    assert set(await EventStore(pool).store(events)) == {None}
    assert by_copy == await rows(pool)
    assert len(by_copy) == len(events) > 50


def test_a_row_has_a_value_for_each_column() -> None:
    [one] = batch(1)
    named = dict(zip(COLUMNS, one.values(), strict=True))
    assert {name: getattr(one, name) for name in COLUMNS if name != "data"} == {
        name: value for name, value in named.items() if name != "data"
    }


async def test_a_batch_with_a_duplicate_is_stored_once(pool: Pool) -> None:
    events, store = batch(), EventStore(pool)
    assert await store.store([events[50]]) == [None]
    assert set(await store.store(events)) == {None}
    assert store.stored == len(events) == len(await rows(pool))
    assert store._no_copy_until > asyncio.get_running_loop().time()
    assert set(await store.store(batch())) == {None}  # by INSERT


async def test_a_different_event_with_a_stored_id_is_rejected(pool: Pool) -> None:
    events = batch()
    [impostor] = batch(1)
    events[7] = msgspec.structs.replace(events[7], id=impostor.id, occurred_at=impostor.occurred_at)
    assert await EventStore(pool).store([impostor]) == [None]
    outcomes = await EventStore(pool).store(events)
    assert [nth for nth, outcome in enumerate(outcomes) if outcome] == [7]
    assert isinstance(outcomes[7], Rejected)


async def test_a_row_that_postgresql_refuses_is_found(pool: Pool) -> None:
    await pool.execute(REFUSE)
    events = batch()
    events[20] = job("bad", 21)
    outcomes = await EventStore(pool).store(events)
    assert [nth for nth, outcome in enumerate(outcomes) if outcome] == [20]
    assert "not that one" in str(outcomes[20])
    assert len(await rows(pool)) == len(events) - 1


async def test_a_dropped_partition_is_created_again(pool: Pool) -> None:
    store = EventStore(pool)
    assert set(await store.store(batch())) == {None}
    name = await pool.fetchval("SELECT tableoid::regclass::text FROM events LIMIT 1")
    await pool.execute(f"DROP TABLE {name}")
    assert set(await store.store(batch())) == {None}
    assert len(await rows(pool)) == COPY_FROM


async def test_persisters_with_the_same_events_at_once_store_each_once(pool: Pool) -> None:
    """In different orders, so that they wait for each other."""
    events = batch(400)
    orders = [random.sample(events, len(events)) for _ in range(4)]
    stores = [EventStore(pool) for _ in orders]
    done = await asyncio.gather(
        *(store.store(order) for store, order in zip(stores, orders, strict=True))
    )
    assert {outcome for outcomes in done for outcome in outcomes} == {None}
    assert sum(store.stored for store in stores) == len(events) == len(await rows(pool))


async def test_a_batch_is_copied_without_rights_beyond_those_of_the_persister(
    pool: Pool,
) -> None:
    await EventStore(pool).store(batch(1))  # creates the partition
    await pool.execute("CREATE ROLE only_stores LOGIN")
    try:
        await pool.execute("GRANT SELECT, INSERT ON events TO only_stores")
        async with pool.acquire() as connection, connection.transaction():
            await connection.execute("SET LOCAL ROLE only_stores")
            done = await connection.copy_records_to_table(
                "events", columns=list(COLUMNS), records=[one.values() for one in batch()]
            )
        assert done == f"COPY {COPY_FROM}"
    finally:
        await pool.execute("DROP OWNED BY only_stores; DROP ROLE only_stores")
