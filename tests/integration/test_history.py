"""Reading what happened: filters, pages and counts, over NATS."""

import asyncio
import contextlib
import datetime
from collections.abc import AsyncIterator, Iterable
from pathlib import Path
from typing import Any, Final
from uuid import UUID

import msgspec
import pytest
from nats.aio.msg import Msg
from nats.errors import NoRespondersError
from nats.errors import TimeoutError as NatsTimeoutError

from mediabus.consumers.event_row import EventRow
from mediabus.consumers.history.query import History, page_query, serve_history
from mediabus.consumers.persister.store import EventStore
from mediabus.runtime.nats.bus import Bus
from mediabus.runtime.postgres.database import Pool, open_pool
from mediabus.runtime.postgres.schema import migrate
from mediabus.runtime.settings import DatabaseSettings, Settings
from mediabus.schemas import codec
from mediabus.schemas.envelope import Envelope
from mediabus.schemas.events import JobFailed, MediaItemRemoved, MediaItemUpdated
from mediabus.schemas.identity import Actor, Resource, uuid7
from mediabus.schemas.operations.requests import (
    CountHistory,
    Counts,
    HistoryEvent,
    ListHistory,
    Page,
    Problem,
)
from mediabus.wiring.parts import parts_of, working
from mediabus.wiring.registry import PERSIST
from tests.support.eventually import eventually
from tests.support.servers import postgres_server

NOW = datetime.datetime.now(datetime.UTC).replace(microsecond=123456)
ALICE = Actor("user", "alice")
NIGHTLY = Actor("job", "nightly")


def removed(item: str, minutes_ago: int, actor: Actor = ALICE, repeated: int = 1) -> Envelope:
    event = MediaItemRemoved(title=item * repeated, media_type="movie", monitored=True)
    envelope = Envelope.of(event, actor=actor, resource=Resource("media_item", item))
    return msgspec.structs.replace(envelope, time=NOW - datetime.timedelta(minutes=minutes_ago))


def job_failed(minutes_ago: int) -> Envelope:
    envelope = Envelope.of(JobFailed(job_name="scan"), actor=NIGHTLY)
    return msgspec.structs.replace(envelope, time=NOW - datetime.timedelta(minutes=minutes_ago))


async def store(pool: Pool, events: Iterable[Envelope]) -> list[Envelope]:
    kept = list(events)
    rows = [EventRow.of(envelope, number) for number, envelope in enumerate(kept, start=1)]
    assert set(await EventStore(pool).store(rows)) <= {None}
    return kept


@pytest.fixture
async def served(bus: Bus, pool: Pool) -> AsyncIterator[Bus]:
    async with serve_history(bus, pool):
        yield bus


async def ask(
    bus: Bus, subject: str, request: dict[str, Any] | bytes = b"", *, within: float = 5
) -> Msg:
    body = request if isinstance(request, bytes) else msgspec.json.encode(request)
    return await bus.nc.request(subject, body, timeout=within)


async def page(bus: Bus, **request: object) -> Page[HistoryEvent]:
    reply = await ask(bus, "history.list", request)
    return msgspec.json.decode(reply.data, type=Page[HistoryEvent])


def ids(page: Page[HistoryEvent]) -> list[UUID]:
    return [event.id for event in page.items]


def problem_of(reply: Msg) -> Problem:
    assert reply.headers
    wrong: Problem = msgspec.json.decode(reply.data, type=dict[str, Problem])["error"]
    assert reply.headers["Nats-Service-Error-Code"] == str(wrong.code)
    assert reply.headers["Nats-Service-Error"]
    return wrong


async def test_an_event_is_read_as_it_was_published(served: Bus, pool: Pool) -> None:
    [published] = await store(pool, [removed("dune", 5)])
    [read] = (await page(served)).items
    assert (read.id, read.time, read.type) == (published.id, published.time, published.type)
    assert (read.category, read.severity, read.source) == ("media", "info", "mediabus/media")
    assert (read.actor_type, read.actor_id) == ("user", "alice")
    assert (read.resource_type, read.resource_id) == ("media_item", "dune")
    assert msgspec.json.decode(read.data) == published.fields()


@pytest.mark.parametrize(
    ("wanted", "minutes"),
    [
        ({}, [1, 2, 3, 4]),
        ({"category": "media"}, [1, 2, 4]),
        ({"type": "job.failed"}, [3]),
        ({"severity": "error"}, [3]),
        ({"actor_type": "job"}, [3, 4]),
        ({"actor_id": "alice"}, [1, 2]),
        ({"resource_type": "media_item"}, [1, 2, 4]),
        ({"resource_id": "dune"}, [1, 4]),
        ({"resource_id": "dune", "actor_id": "nightly"}, [4]),
        ({"since": NOW - datetime.timedelta(minutes=2)}, [1, 2]),
        ({"until": NOW - datetime.timedelta(minutes=2)}, [3, 4]),
        ({"type": "never.happened"}, []),
    ],
)
async def test_each_filter_returns_only_matching_events(
    served: Bus, pool: Pool, wanted: dict[str, Any], minutes: list[int]
) -> None:
    events = [removed("dune", 1), removed("alien", 2), job_failed(3), removed("dune", 4, NIGHTLY)]
    await store(pool, events)
    assert ids(await page(served, **wanted)) == [events[minute - 1].id for minute in minutes]
    counted = await ask(served, "history.count", wanted)
    assert msgspec.json.decode(counted.data, type=Counts).total == len(minutes)


async def test_pages_neither_repeat_nor_skip_events(served: Bus, pool: Pool) -> None:
    same_moment = [removed(f"twin {number}", 0) for number in range(25)]
    months = [removed(f"old {number}", 60 * 24 * 20 * number) for number in range(20)]
    await store(pool, same_moment + months)
    seen: list[HistoryEvent] = []
    after = None
    while True:
        part = await page(served, limit=7, after=after)
        seen += part.items
        after = part.next
        if after is None:
            break
        assert len(part.items) == 7
        await store(pool, [removed("newcomer", -1)])  # pages that are under way do not move
    assert len(seen) == 45
    assert seen == sorted(seen, key=lambda event: (event.time, event.id), reverse=True)


async def test_the_last_page_has_no_cursor_even_when_it_is_full(served: Bus, pool: Pool) -> None:
    await store(pool, [removed("dune", number) for number in range(4)])
    first = await page(served, limit=2)
    last = await page(served, limit=2, after=first.next)
    assert first.next
    assert len(last.items) == 2
    assert last.next is None


async def test_a_page_of_large_events_is_short_and_complete(served: Bus, pool: Pool) -> None:
    large = [removed("x", number, repeated=250_000) for number in range(5)]
    stored = await store(pool, [*large[:4], removed("y", 9, repeated=900_000)])
    seen, after, pages = [], None, 0
    while pages == 0 or after:
        part = await page(served, after=after)
        seen += ids(part)
        after, pages = part.next, pages + 1
    assert seen == [event.id for event in stored]
    assert pages == 3


async def test_numbers_keep_every_digit(served: Bus, pool: Pool) -> None:
    exact = b'{"big":123456789012345678901234567890,"small":0.1000000000000000055511151231257827}'
    odd = Envelope(
        id=uuid7(), type="x.y", time=NOW, source="s", category="other", severity="info",
        data=msgspec.Raw(exact),
    )  # fmt: skip
    await store(pool, [odd])
    reply = await ask(served, "history.get", {"id": str(odd.id)})
    assert exact in reply.data


HUGE: Final = b'{"list":[' + b"1e300," * 30_000 + b"0]}"
"""Of 180 kB, and 9 MB when PostgreSQL writes the numbers out."""

INSERT_HUGE: Final = """
INSERT INTO events (id, occurred_at, category, type, severity, source, data)
VALUES ($1, $2, 'other', 'x.y', 'info', 's', $3::text::jsonb)
"""


async def test_a_page_continues_past_huge_events(served: Bus, pool: Pool) -> None:
    """As the first release stored them: such an event is shown by its size."""
    [new, old] = await store(pool, [removed("new", 1), removed("old", 3)])
    huge = uuid7()
    await pool.execute(INSERT_HUGE, huge, NOW - datetime.timedelta(minutes=2), HUGE.decode())
    seen: list[HistoryEvent] = []
    after: str | None = None
    for _ in range(3):
        part = await page(served, after=after, limit=500)
        seen += part.items
        after = part.next
        if after is None:
            break
    assert [event.id for event in seen] == [new.id, huge, old.id]
    assert msgspec.json.decode(seen[1].data)["mediabus_omitted_bytes"] > 9_000_000
    wrong = problem_of(await ask(served, "history.get", {"id": str(huge)}))
    assert (wrong.code, wrong.reason) == (400, "too_large")
    assert "Read it from the table events in PostgreSQL" in wrong.message


@pytest.mark.parametrize("event_type", ["x.y", "media_item.updated"])
async def test_an_event_with_huge_numbers_is_returned_unchanged(
    served: Bus, pool: Pool, event_type: str
) -> None:
    known = MediaItemUpdated(title="t", media_type="movie", monitored=True, changes=HUGE_CHANGES)
    data = HUGE if event_type == "x.y" else msgspec.json.encode(known)
    odd = codec.decode(
        b'{"specversion":"1.0","id":"%s","source":"s","type":"%s","time":"%s","data":%s}'
        % (str(uuid7()).encode(), event_type.encode(), NOW.isoformat().encode(), data)
    )
    await store(pool, [odd])
    [item] = (await page(served)).items
    assert bytes(item.data) == data
    reply = await ask(served, "history.get", {"id": str(odd.id)})
    assert data in reply.data


HUGE_CHANGES: Final[dict[str, tuple[Any, Any]]] = {"metadata": ({}, {"list": [1e300] * 20_000})}


async def test_counts_by_type(served: Bus, pool: Pool) -> None:
    await store(pool, [removed("a", 1), removed("b", 2), job_failed(3)])
    reply = await ask(served, "history.count")
    assert msgspec.json.decode(reply.data) == {
        "total": 3,
        "by_type": {"media_item.removed": 2, "job.failed": 1},
    }


async def test_one_event_is_found_by_its_id_and_an_unknown_one_is_not(
    served: Bus, pool: Pool
) -> None:
    [event] = await store(pool, [removed("dune", 1)])
    reply = await ask(served, "history.get", {"id": str(event.id)})
    assert msgspec.json.decode(reply.data, type=HistoryEvent).id == event.id
    wrong = problem_of(await ask(served, "history.get", {"id": str(uuid7())}))
    assert (wrong.code, wrong.reason, wrong.field) == (404, "not_found", "id")


@pytest.mark.parametrize(
    ("body", "reason", "field"),
    [
        (b"not json", "not_json", None),
        (b'{"type": "\xff"}', "not_json", None),
        (b"[" * 100_000, "invalid_request", None),
        (b'{"type": 5}', "invalid_request", "type"),
        (b"[]", "invalid_request", None),
        (b'{"limit": 0}', "invalid_request", "limit"),
        (b'{"limit": 501}', "invalid_request", "limit"),
        (b'{"sort": "type"}', "invalid_request", "sort"),
        (b'{"severity": "fatal"}', "invalid_request", "severity"),
        (b'{"since": "2026-01-01T00:00:00"}', "invalid_request", "since"),
        (b'{"after": "!"}', "invalid_request", "after"),
        (b'{"after": "AAAA"}', "invalid_request", "after"),
        (b'{"after": "f////////////////////////////w"}', "invalid_request", "after"),
        (b'{"type": "a\\u0000b"}', "invalid_request", "type"),
        (b'{"type": "' + b"a" * 1_000_000 + b'"}', "too_large", None),
    ],
)
async def test_a_bad_request_is_answered_with_what_is_wrong_with_it(
    served: Bus, body: bytes, reason: str, field: str | None
) -> None:
    wrong = problem_of(await ask(served, "history.list", body))
    assert (wrong.code, wrong.reason, wrong.field) == (400, reason, field)


async def test_services_are_found_by_the_micro_protocol(served: Bus) -> None:
    reply = await ask(served, "$SRV.INFO.mediabus-history")
    info = msgspec.json.decode(reply.data)
    assert {endpoint["subject"] for endpoint in info["endpoints"]} == {
        "history.list",
        "history.count",
        "history.get",
        "history.timeline",
    }


async def test_an_unreachable_database_is_reported_until_it_is_back(
    bus: Bus, tmp_path: Path
) -> None:
    with postgres_server(tmp_path / "postgres") as server:
        async with open_pool(DatabaseSettings(url=server.url)) as pool:
            await migrate(pool)
            async with serve_history(bus, pool):
                assert (await page(bus)).items == []
                server.kill()
                wrong = problem_of(await ask(bus, "history.list"))
                assert (wrong.code, wrong.reason) == (503, "database_away")
                server.start()
                assert (await page(bus)).items == []


async def test_a_fault_of_ours_is_answered_without_its_details(
    served: Bus, pool: Pool, caplog: pytest.LogCaptureFixture
) -> None:
    await pool.execute("ALTER TABLE events RENAME TO elsewhere")
    wrong = problem_of(await ask(served, "history.list"))
    assert (wrong.code, wrong.reason) == (500, "internal")
    assert "elsewhere" not in wrong.message
    assert "UndefinedTableError" in caplog.text


async def test_requests_run_concurrently_and_finish_before_shutdown(bus: Bus, pool: Pool) -> None:
    await store(pool, [removed("dune", 1)])

    async def nobody_serves() -> bool:
        try:
            await bus.nc.request("history.count", b"[]", timeout=0.1)
        except NoRespondersError:
            return True
        except NatsTimeoutError:  # it waits behind the others
            return False
        return False

    async with contextlib.AsyncExitStack() as stack:
        await stack.enter_async_context(serve_history(bus, pool))
        async with pool.acquire() as connection, connection.transaction():
            await connection.execute("LOCK TABLE events")
            stuck = [asyncio.create_task(ask(bus, "history.count")) for _ in range(20)]
            await bus.nc.flush()
            reply = await ask(bus, "history.count", b"[]")  # is not behind those
            assert problem_of(reply).code == 400
            stuck += [asyncio.create_task(ask(bus, "history.count")) for _ in range(40)]
            await bus.nc.flush()
            closing = asyncio.create_task(stack.aclose())
            await eventually(nobody_serves)
        replies = await asyncio.gather(*stuck)
        await closing
    assert {msgspec.json.decode(reply.data, type=Counts).total for reply in replies} == {1}


async def test_requests_beyond_the_queue_are_refused_as_busy(bus: Bus, settings: Settings) -> None:
    """Hundreds of slow counts from any client: storing has connections of its own."""
    async with (
        working(settings, 0, parts_of(settings, (PERSIST,))),
        open_pool(settings.database, size=2) as pool,
    ):
        await eventually(lambda: is_served(bus), within=30)
        for month in range(3):
            moment = NOW - datetime.timedelta(days=28 * month)
            await pool.execute("SELECT ensure_events_partition($1)", moment)
        await pool.execute(FILL, timeout=60)
        asking = [asyncio.create_task(ask(bus, "history.count", within=60)) for _ in range(300)]
        for number in range(20):
            await bus.publish(JobFailed(job_name=f"{number}"), actor=NIGHTLY)
        await eventually(lambda: pool.fetchval(STORED), within=20)
        replies = await asyncio.gather(*asking)
    problems = [problem_of(one) for one in replies if one.headers]
    assert {(one.code, one.reason) for one in problems} <= {(503, "busy"), (503, "too_slow")}
    assert [one.reason for one in problems].count("busy") >= 200


STORED = "SELECT count(*) = 20 FROM events WHERE type = 'job.failed'"


async def is_served(bus: Bus) -> bool:
    try:
        return not (await ask(bus, "history.count")).headers
    except NoRespondersError:
        return False


FILL = """
INSERT INTO events (id, occurred_at, category, type, severity, source, actor_type, actor_id,
                    resource_type, resource_id, data)
SELECT gen_random_uuid(), now() - n * interval '40 seconds', 'media', 'type.' || n % 1000, 'info',
       's', 'user', (n % 500)::text, 'media_item', (n % 5000)::text, '{}'
FROM generate_series(1, 100000) AS n
"""


async def test_a_page_of_a_hundred_thousand_events_reads_few_of_them(pool: Pool) -> None:
    for month in range(3):
        moment = NOW - datetime.timedelta(days=28 * month)
        await pool.execute("SELECT ensure_events_partition($1)", moment)
    await pool.execute(FILL)
    await pool.execute("ANALYZE events")
    a_month_ago = NOW - datetime.timedelta(days=30)
    wanted: tuple[dict[str, Any], ...] = (
        {},
        {"type": "type.7"},
        {"resource_id": "17"},
        {"actor_id": "17"},
        {"type": "type.7", "resource_id": "7"},
        {"type": "type.3", "since": a_month_ago},
    )
    for filters in wanted:
        first = await History(pool).list(ListHistory(**filters, limit=5), ALICE, {})
        assert first.next, filters
        for after in (None, first.next):
            request = ListHistory(**filters, limit=5, after=after)
            assert await rows_read(pool, request) < 1000, filters


async def rows_read(pool: Pool, request: ListHistory) -> int:
    """How many rows PostgreSQL looks at for a page, once it has prepared for many like it."""
    statement, args = page_query(request)
    async with pool.acquire() as connection, connection.transaction():
        for _ in range(7):  # from the sixth on, it may use one plan for all arguments
            before: int = await connection.fetchval(READ_SO_FAR)
            assert await connection.fetch(statement, *args)
        after: int = await connection.fetchval(READ_SO_FAR)
        return after - before


READ_SO_FAR = """
SELECT coalesce(sum(seq_tup_read + idx_tup_fetch), 0)::bigint
FROM pg_stat_xact_user_tables WHERE relname LIKE 'events%'
"""


async def test_counts_match_what_is_listed(pool: Pool) -> None:
    await store(pool, [removed("dune", number) for number in range(3)])
    counts = await History(pool).count(CountHistory(resource_id="dune"), ALICE, {})
    assert counts.total == 3
