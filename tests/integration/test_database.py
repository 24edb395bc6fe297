"""PostgreSQL is waited for, its schema brought up to date once, and its absence is borne."""

import asyncio
import contextlib
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import asyncpg
import pytest

from mediabus.runtime.postgres import database, preconditions, schema
from mediabus.runtime.postgres.database import CannotLogIn, Pool, open_pool
from mediabus.runtime.postgres.preconditions import DatabaseTooOld, DatabaseUnfit
from mediabus.runtime.postgres.schema import (
    installation_id,
    migrate,
    migrations,
    wait_until_migrated,
)
from mediabus.runtime.settings import DatabaseSettings, SettingsError
from tests.support.eventually import eventually
from tests.support.nobody import nobody
from tests.support.servers import PostgresServer, postgres_server

ALL = sorted(migrations())
APPLIED = "SELECT number FROM mediabus_migrations ORDER BY number"


@pytest.fixture
async def empty_url(database_url: str) -> AsyncIterator[str]:
    """A database with nothing in it."""
    name = f"{database_url.rpartition('/')[2]}_empty"
    connection = await asyncpg.connect(database_url)
    await connection.execute(f"CREATE DATABASE {name}")
    yield f"{database_url.rpartition('/')[0]}/{name}"
    await connection.execute(f"DROP DATABASE {name} WITH (FORCE)")
    await connection.close()


@pytest.fixture
async def empty(empty_url: str) -> AsyncIterator[Pool]:
    async with open_pool(DatabaseSettings(url=empty_url)) as pool:
        yield pool


async def applied(pool: Pool) -> list[int]:
    return [row["number"] for row in await pool.fetch(APPLIED)]


async def test_migrations_are_applied_once(empty: Pool) -> None:
    assert await migrate(empty) == ALL
    assert await migrate(empty) == []
    assert await applied(empty) == ALL


async def test_many_processes_may_migrate_at_once(empty_url: str) -> None:
    async def one() -> list[int]:
        async with open_pool(DatabaseSettings(url=empty_url), size=2) as pool:
            return await migrate(pool)

    done = await asyncio.gather(*(one() for _ in range(6)))
    assert sorted(done) == [*([[]] * 5), ALL]


async def test_a_failed_migration_is_rolled_back_and_can_be_repeated(
    empty: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = migrations()
    # Everything in it succeeds; that it was applied cannot be written down.
    unwritable = "CREATE TABLE half (id int); ALTER TABLE mediabus_migrations RENAME number TO no"
    broken = known | {99: unwritable}
    monkeypatch.setattr(schema, "migrations", lambda: broken)
    with pytest.raises(asyncpg.UndefinedColumnError):
        await migrate(empty)
    assert await applied(empty) == ALL
    assert await empty.fetchval("SELECT to_regclass('half')") is None
    broken[99] = "CREATE TABLE half (id int)"
    assert await migrate(empty) == [99]


@pytest.mark.parametrize(
    "theirs",
    [
        "CREATE TABLE events (id int)",
        "CREATE VIEW outbox AS SELECT 1",
        "CREATE TABLE mediabus_installation (id int)",
    ],
)
async def test_a_table_of_another_program_is_named_and_left_alone(empty: Pool, theirs: str) -> None:
    await empty.execute(theirs)
    with pytest.raises(DatabaseUnfit, match=r"already exists, .* a database of its own"):
        await migrate(empty)
    assert len(await applied(empty)) < len(ALL)


async def test_each_database_is_an_installation_of_its_own(empty: Pool, pool: Pool) -> None:
    await migrate(empty)
    first = await installation_id(empty)
    assert await migrate(empty) == []
    assert await installation_id(empty) == first
    assert await installation_id(pool) != first


async def test_a_schema_that_others_make_is_waited_for(empty: Pool) -> None:
    waiting = asyncio.create_task(wait_until_migrated(empty))
    await eventually(lambda: empty.fetchval("SELECT to_regclass('mediabus_migrations')"))
    assert not waiting.done()
    await migrate(empty)
    await asyncio.wait_for(waiting, 5)


async def test_an_unreadable_schema_is_waited_for_with_the_reason(
    pool: Pool, database_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with nobody(pool, database_url) as settings, open_pool(settings) as denied:
        with caplog.at_level("INFO"), pytest.raises(TimeoutError):
            await asyncio.wait_for(wait_until_migrated(denied), 1)
    [told] = caplog.records
    assert told.__dict__["reason"] == "permission denied for table mediabus_migrations"


@pytest.mark.parametrize(
    ("place", "refusal", "said"),
    [
        ("127.0.0.1:99999/x", SettingsError, "not a PostgreSQL URL such as postgresql://user@host"),
        ("127.0.0.1:port/x", SettingsError, "not a PostgreSQL URL such as postgresql://user@host"),
        (None, CannotLogIn, 'database "no_such" does not exist. Check MEDIABUS_DATABASE_URL'),
    ],
)
async def test_a_pool_that_cannot_be_opened_raises_with_advice(
    database_url: str, place: str | None, refusal: type[Exception], said: str
) -> None:
    there = f"{database_url.rpartition('/')[0]}/no_such"
    url = there if place is None else f"postgresql://somebody:secret@{place}"
    with pytest.raises(refusal, match=said) as refused:
        async with asyncio.timeout(10), open_pool(DatabaseSettings(url=url)):
            pass
    assert "secret" not in str(refused.value)


async def test_a_newer_schema_is_accepted_and_logged(
    pool: Pool, caplog: pytest.LogCaptureFixture
) -> None:
    await pool.execute("INSERT INTO mediabus_migrations (number) VALUES (1000)")
    newer = (
        f"the database is of a newer mediabus: its schema has number 1000, this one knows {ALL[-1]}"
    )
    await asyncio.wait_for(wait_until_migrated(pool), 5)
    assert caplog.messages == [newer]
    assert await migrate(pool) == []
    assert caplog.messages == [newer, newer]


async def test_a_migration_does_not_block_other_sessions(
    pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It waits for a reader, and a writer behind it would wait too: so it steps aside."""
    known = migrations() | {9999: "ALTER TABLE media_items ADD COLUMN note text"}
    monkeypatch.setattr(schema, "migrations", lambda: known)
    async with pool.acquire() as reader, reader.transaction():
        await reader.fetch("SELECT * FROM media_items")
        migrating = asyncio.create_task(migrate(pool))
        await eventually(lambda: pool.fetchval(WAITING_FOR_A_LOCK))
        for _ in range(3):
            await pool.execute("UPDATE media_items SET title = title", timeout=20)
        assert not migrating.done()
    assert await asyncio.wait_for(migrating, 30) == [9999]


async def test_a_migration_logs_who_holds_its_lock(
    pool: Pool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    known = migrations() | {9999: "ALTER TABLE media_items ADD COLUMN note text"}
    monkeypatch.setattr(schema, "migrations", lambda: known)
    async with pool.acquire() as reader, reader.transaction():
        await reader.fetch("SELECT * FROM media_items")
        pid = await reader.fetchval("SELECT pg_backend_pid()")
        migrating = asyncio.create_task(migrate(pool))
        await eventually(lambda: "migration 9999 waits for a lock" in caplog.text)
    assert await asyncio.wait_for(migrating, 30) == [9999]
    [held] = {one.__dict__["held_by"] for one in caplog.records if "held_by" in one.__dict__}
    assert f"pid {pid} (postgres, mediabus, idle in transaction" in held
    assert "media_items" in held


async def test_no_advisory_lock_keeps_a_migration_waiting(empty: Pool) -> None:
    """Every login may take those: the number here is that of the first release."""
    async with empty.acquire() as reader:
        await reader.execute("SELECT pg_advisory_lock(x'6D65646961627573'::bigint)")
        assert await asyncio.wait_for(migrate(empty), 30) == ALL


WAITING_FOR_A_LOCK = """
SELECT count(*) FROM pg_stat_activity
WHERE datname = current_database() AND wait_event_type = 'Lock' AND query LIKE 'ALTER TABLE%'
"""


FASTER = """
CREATE FUNCTION faster() RETURNS event_trigger LANGUAGE plpgsql AS $$
BEGIN
    IF current_query() LIKE '%IF NOT EXISTS {table}%' THEN
        RAISE EXCEPTION 'relation "{table}" already exists' USING ERRCODE = '{code}';
    END IF;
END $$;
CREATE EVENT TRIGGER faster ON ddl_command_start EXECUTE FUNCTION faster();
"""
"""The errors of ``CREATE TABLE IF NOT EXISTS`` if another session is faster by microseconds."""


@pytest.mark.parametrize("code", ["23505", "42P07", "42710"])
async def test_a_process_that_creates_the_lock_at_the_same_time_stops_no_migration(
    empty: Pool, code: str
) -> None:
    await empty.execute(schema.CREATE_MIGRATION_LOCK)
    await empty.execute(FASTER.format(table="mediabus_migration_lock", code=code))

    assert await migrate(empty) == ALL


async def test_a_migration_may_take_longer_than_a_statement(
    empty_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And so may the wait for another process that migrates."""
    known = migrations() | {9999: "SELECT pg_sleep(4)"}
    monkeypatch.setattr(schema, "migrations", lambda: known)
    monkeypatch.setattr(database, "STATEMENT_TIMEOUT", 3.0)

    async def one() -> list[int]:
        async with open_pool(DatabaseSettings(url=empty_url), size=2) as pool:
            return await migrate(pool)

    assert sorted(await asyncio.gather(one(), one())) == [[], [*ALL, 9999]]


async def test_a_server_that_is_too_old_is_refused_by_its_version(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(preconditions, "NEEDS_SERVER", 99)
    with pytest.raises(DatabaseTooOld, match="is too old: mediabus needs 99 or newer"):
        async with open_pool(DatabaseSettings(url=database_url)):
            pass


async def test_without_a_url_the_error_names_the_setting() -> None:
    with pytest.raises(SettingsError, match="MEDIABUS_DATABASE_URL"):
        async with open_pool(DatabaseSettings()):
            pass


@pytest.fixture
def own() -> Iterator[PostgresServer]:
    """A PostgreSQL to stop and start again."""
    with (
        tempfile.TemporaryDirectory(prefix="mediabus-") as directory,
        postgres_server(Path(directory)) as server,
    ):
        yield server


async def test_a_server_that_starts_later_is_waited_for(own: PostgresServer) -> None:
    own.stop()

    async def ask() -> bool:
        async with open_pool(DatabaseSettings(url=own.url)) as pool:
            return bool(await pool.fetchval("SELECT true"))

    asking = asyncio.create_task(ask())
    await asyncio.wait([asking], timeout=0.5)
    assert not asking.done()
    await asyncio.to_thread(own.start)
    assert await asyncio.wait_for(asking, 10)


async def test_a_server_lost_during_the_wait_for_a_schema_is_waited_for(
    own: PostgresServer,
) -> None:
    async with open_pool(DatabaseSettings(url=own.url)) as pool:
        waiting = asyncio.create_task(wait_until_migrated(pool))
        await eventually(lambda: pool.fetchval("SELECT to_regclass('mediabus_migrations')"))
        own.kill()
        await asyncio.wait([waiting], timeout=1)
        assert not waiting.done()
        await asyncio.to_thread(own.start)
        await eventually(lambda: is_back(pool))
        await migrate(pool)
        await asyncio.wait_for(waiting, 10)


async def is_back(pool: Pool) -> bool:
    with contextlib.suppress(*database.AWAY):
        return bool(await pool.fetchval("SELECT true"))
    return False


async def test_a_pool_outlives_its_server(own: PostgresServer) -> None:
    async with open_pool(DatabaseSettings(url=own.url)) as pool:
        await pool.fetchval("SELECT 1")
        own.kill()
        with pytest.raises(database.AWAY):
            await pool.fetchval("SELECT 1")
        await asyncio.to_thread(own.start)
        assert await eventually(lambda: is_back(pool))


async def test_a_connection_is_given_back_without_what_was_done_on_it(database_url: str) -> None:
    """Even where its user was cancelled in the middle of a transaction."""
    settings = DatabaseSettings(url=database_url)
    async with open_pool(settings, size=1) as pool, open_pool(settings, size=1) as other:

        async def half() -> None:
            async with pool.acquire() as connection:
                await connection.transaction().start()
                await connection.execute("INSERT INTO leases VALUES ('a', gen_random_uuid(), 1)")
                await connection.execute("SELECT pg_sleep(60)")

        task = asyncio.create_task(half())
        await eventually(lambda: sleeping(other))
        task.cancel()
        await asyncio.wait([task])
        assert await pool.fetchval("SELECT count(*) FROM leases") == 0
        assert await pool.fetchval("SELECT pg_current_xact_id_if_assigned() IS NULL")


async def test_values_travel_as_json(pool: Pool) -> None:
    value = {"text": "ü", "list": [1, 2.5, None]}
    assert await pool.fetchval("SELECT $1::jsonb", value) == value
    assert await pool.fetchval("SELECT $1::jsonb", '{"already": "text"}') == {"already": "text"}


async def test_leaving_does_not_wait_for_a_statement_that_hangs(database_url: str) -> None:
    async with asyncio.timeout(10):
        async with open_pool(DatabaseSettings(url=database_url)) as pool:
            hanging = asyncio.create_task(pool.execute("SELECT pg_sleep(60)"))
            await eventually(lambda: sleeping(pool))
        with pytest.raises((asyncpg.InterfaceError, asyncpg.PostgresError, ConnectionError)):
            await hanging


async def sleeping(pool: Pool) -> bool:
    return bool(
        await pool.fetchval(
            "SELECT count(*) FROM pg_stat_activity "
            "WHERE datname = current_database() AND query = 'SELECT pg_sleep(60)'"
        )
    )
