"""Upgrades: later versions read what each release wrote.

The processes of a release continue to work while a later one migrates, and afterwards. So you can
go back to it.
"""

import asyncio
import itertools
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import asyncpg
import msgspec
import pytest

from mediabus.consumers import dead_letters
from mediabus.consumers.event_row import EventRow
from mediabus.consumers.persister.store import EventStore
from mediabus.runtime.postgres import schema
from mediabus.runtime.postgres.database import Pool, open_pool
from mediabus.runtime.postgres.schema import migrate, migrations
from mediabus.runtime.settings import DatabaseSettings
from mediabus.schemas import codec
from mediabus.schemas.operations.registry import OPERATIONS
from mediabus.schemas.operations.requests import ErrorReply
from mediabus.schemas.status import ClientStatus, DownloadStatus
from mediabus.schemas.subjects import subject_of
from tests.support.eventually import eventually
from tests.support.history import rows
from tests.support.stream import event

GOLDEN = Path(__file__).parents[1] / "golden"
RELEASES = sorted(path for path in GOLDEN.iterdir() if (path / "events.jsonl").exists())
LONGEST = 15.0
"""Seconds that a statement may take while others migrate: 1 is enough on an idle machine."""

release = pytest.mark.parametrize("release", RELEASES, ids=lambda path: path.name)


def lines(path: Path) -> list[Any]:
    return [msgspec.json.decode(line) for line in path.read_bytes().splitlines()]


def holds(now: object, then: object) -> bool:
    """Whether all that was said then is still said, if perhaps more."""
    if isinstance(now, dict) and isinstance(then, dict):
        return all(name in now and holds(now[name], value) for name, value in then.items())
    if isinstance(now, list) and isinstance(then, list):
        return len(now) == len(then) and all(map(holds, now, then))
    return now == then


def plain(value: object) -> Any:
    return msgspec.json.decode(msgspec.json.encode(value))


def test_there_is_a_release_to_compare_with() -> None:
    assert "0.1.0" in {path.name for path in RELEASES}


@release
async def test_the_events_of_a_release_decode_and_become_the_same_rows(
    release: Path, pool: Pool
) -> None:
    payloads = (release / "events.jsonl").read_bytes().splitlines()
    envelopes = [codec.decode(payload) for payload in payloads]
    assert [subject_of(one) for one in envelopes] == lines(release / "subjects.jsonl")
    assert [one.type for one in envelopes if one.event is None] == ["backup.made"]
    for envelope, payload in zip(envelopes, payloads, strict=True):
        if envelope.event:
            assert holds(plain(envelope.event), msgspec.json.decode(payload)["data"])
    await EventStore(pool).store([EventRow.of(one, n) for n, one in enumerate(envelopes)])
    stored = await rows(pool)
    for row, expected in zip(stored, lines(release / "rows.jsonl"), strict=True):
        assert holds(row, expected)


@release
def test_statuses_and_requests_of_a_release_decode(release: Path) -> None:
    download, client = lines(release / "statuses.jsonl")
    assert holds(plain(msgspec.convert(download, DownloadStatus, strict=False)), download)
    assert holds(plain(msgspec.convert(client, ClientStatus, strict=False)), client)


@release
def test_the_requests_and_replies_of_a_release_decode(release: Path) -> None:
    asked = lines(release / "asked.jsonl")
    assert asked
    for one in asked:
        request, reply = OPERATIONS[one["subject"]]
        for said, known in ((one["request"], request), (one["reply"], reply)):
            body = msgspec.json.encode(said)
            assert holds(plain(msgspec.json.decode(body, type=known)), said), one["subject"]
    problem = b'{"error":{"code":409,"reason":"r","message":"m","field":null}}'
    assert msgspec.json.decode(problem, type=ErrorReply).error.code == 409


@release
def test_the_dead_letters_of_a_release_are_read(release: Path) -> None:
    [headers] = lines(release / "letters.jsonl")
    found = dead_letters._letter(1, dead_letters._NEVER, headers)
    assert (found.consumer, found.kind, found.reason) == (
        "persister",
        "rejected",
        "PostgreSQL refuses it",
    )
    assert (found.subject, found.type) == ("events.system.job.executed.1", "job.executed")
    assert (found.stream, found.stream_seq, found.deliveries) == ("EVENTS", 7, 3)
    assert found.message_id == "0198c1f3-0d4e-7f60-9a1b-2c3d4e5f6071"
    assert found.headers == {"Content-Type": codec.CONTENT_TYPE, "X-Mine": "kept"}


@release
async def test_the_statements_of_a_release_fit_the_newest_schema(release: Path, pool: Pool) -> None:
    """So that its processes work on while the new ones start, and again if one goes back."""
    for statement in lines(release / "statements.jsonl"):
        async with pool.acquire() as connection:
            try:
                await connection.prepare(statement["sql"])
            except asyncpg.PostgresError as error:
                pytest.fail(f"{statement['name']} no longer works: {error}")


def test_a_migration_that_was_released_is_never_changed() -> None:
    first = (GOLDEN / "0.1.0" / "schema.sql").read_text()
    assert migrations()[1] == first, "change the schema in a migration of its own"


@pytest.fixture
async def first_release(database_url: str) -> AsyncIterator[str]:
    """A database as the first release left it, with something in every table."""
    name = f"{database_url.rpartition('/')[2]}_first"
    administrator = await asyncpg.connect(database_url)
    await administrator.execute(f"CREATE DATABASE {name}")
    url = f"{database_url.rpartition('/')[0]}/{name}"
    connection = await asyncpg.connect(url)
    await connection.execute((GOLDEN / "0.1.0" / "schema.sql").read_text())
    await connection.execute(schema.CREATE_MIGRATIONS)
    await connection.execute(schema.RECORD_MIGRATION.replace("$1", "1"))
    await connection.execute(FILL)
    await connection.close()
    yield url
    await administrator.execute(f"DROP DATABASE {name} WITH (FORCE)")
    await administrator.close()


FILL = """
INSERT INTO media_items (id, type, title, year)
    SELECT gen_random_uuid(), 'movie', 'Film ' || n, 2000 FROM generate_series(1, 500) AS n;
INSERT INTO downloads (id, title, state, client, client_item, protocol, media_item_id)
    SELECT gen_random_uuid(), title, 'active', 'home', id::text, 'torrent', id FROM media_items;
INSERT INTO download_clients (name, kind, reachable, since) VALUES ('home', 'aria2', true, now());
INSERT INTO leases VALUES ('relay', gen_random_uuid(), 1);
INSERT INTO outbox (id, occurred_at, subject, payload)
    SELECT gen_random_uuid(), now(), 'events.a.b.c.-', '{}' FROM generate_series(1, 500);
SELECT ensure_events_partition(now() - n * interval '31 days') FROM generate_series(0, 3) AS n;
INSERT INTO events (id, occurred_at, category, type, severity, source, data)
    SELECT gen_random_uuid(), now() - n % 90 * interval '1 day', 'other', 'a.b', 'info', 'x', '{}'
    FROM generate_series(1, 5000) AS n;
"""
CONTENTS = """
SELECT json_build_array(
    (SELECT json_agg(json_build_array(id, type, title, year) ORDER BY id) FROM media_items),
    (SELECT json_agg(json_build_array(id, title, state, client_item) ORDER BY id) FROM downloads),
    (SELECT json_agg(json_build_array(id, occurred_at, type, data) ORDER BY id) FROM events
     WHERE type = 'a.b'),
    (SELECT json_agg(json_build_array(position, id, subject) ORDER BY position) FROM outbox
     WHERE position <= 500),
    (SELECT json_agg(json_build_array(name, holder) ORDER BY name) FROM leases))::text
"""
NEXT = """
ALTER TABLE media_items ADD COLUMN note text;
ALTER TABLE downloads ADD COLUMN note text;
ALTER TABLE outbox ADD COLUMN note text;
ALTER TABLE events ADD COLUMN note text;
CREATE INDEX events_by_note ON events (note);
"""
"""As the next release might have it: locks on every table that the processes use."""


class OldProcesses:
    """What the first release's processes say to PostgreSQL, again and again, in its words."""

    def __init__(self, pool: Pool) -> None:
        said = lines(GOLDEN / "0.1.0" / "statements.jsonl")
        self._sql = {one["name"]: one["sql"] for one in said}
        self._pool = pool
        self.longest = 0.0
        self.rounds = 0
        self.recorded = 0
        self.published_directly = 0
        self.stored = 0

    async def _say(self, name: str, *args: object) -> list[asyncpg.Record]:
        began = time.monotonic()
        answer = await self._pool.fetch(self._sql[name], *args)
        self.longest = max(self.longest, time.monotonic() - began)
        return answer

    async def work(self) -> None:
        for number in itertools.count():
            one = event(f"{number}")
            payload = codec.encode(one)
            arguments = [one.id], [one.time], [subject_of(one)], [payload]
            [answer] = await self._say("service.outbox.outbox.RECORD", *arguments)
            self.recorded += answer[0]
            self.published_directly += not answer[0]
            await self._say("service.outbox.relay.READ", 0, [], 10, 1_000_000)
            row = {
                "id": str(one.id),
                "occurred_at": one.time.isoformat(),
                "category": one.category,
                "type": one.type,
                "severity": one.severity,
                "source": one.source,
                "data": one.fields(),
            }
            batch = msgspec.json.encode([row]).decode()
            await self._say("consumers.persister.store.STORE", batch)
            self.stored += 1
            await self._say("consumers.history.ONE", one.id)
            await self._say("service.operations.media.LIST", None, None, None, None, 10)
            self.rounds += 1


async def test_the_first_release_is_migrated_while_its_processes_work(
    first_release: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = migrations() | {9999: NEXT}
    monkeypatch.setattr(schema, "migrations", lambda: known)
    settings = DatabaseSettings(url=first_release)
    async with open_pool(settings) as pool, open_pool(settings, size=2) as another:
        before = await pool.fetchval(CONTENTS)
        old = OldProcesses(pool)
        working = [asyncio.create_task(old.work()) for _ in range(3)]
        try:
            await eventually(lambda: old.rounds > 10, within=30)
            async with pool.acquire() as reader, reader.transaction():
                await reader.fetch("SELECT count(*) FROM events")
                migrating = asyncio.gather(migrate(pool), migrate(another))
                await asyncio.wait([migrating], timeout=3)
                assert not migrating.done()
            assert sorted(await asyncio.wait_for(migrating, 60)) == [[], sorted({*known} - {1})]
            rounds = old.rounds
            await eventually(lambda: old.rounds > rounds + 10, within=30)
        finally:
            for task in working:
                task.cancel()
            ended = await asyncio.gather(*working, return_exceptions=True)
        assert all(isinstance(one, asyncio.CancelledError) for one in ended), ended
        assert old.longest < LONGEST
        assert await pool.fetchval(CONTENTS) == before
        assert await pool.fetchval("SELECT count(*) FROM outbox") >= 500 + old.recorded
        kept = await pool.fetchval("SELECT count(*) FROM events WHERE type = 'job.executed'")
        assert kept >= old.stored
        await pool.fetch("SELECT note FROM events LIMIT 1")
