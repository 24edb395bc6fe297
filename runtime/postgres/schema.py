"""PostgreSQL: the pool, waited for, and the migrations, applied once each and in order."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from importlib import resources
from typing import TYPE_CHECKING, Final

import asyncpg
import msgspec

from service.runtime.settings import DatabaseSettings, SettingsError

log: Final = logging.getLogger("mediabus.database")

NEEDS_SERVER: Final = 15
"""The oldest major version of PostgreSQL that mediabus was tried on."""

STATEMENT_WITHIN: Final = 60.0

MIGRATION_LOCK: Final = 0x6D65646961627573  # "mediabus"
LIMIT_LOCK_WAIT: Final = "SET LOCAL lock_timeout = '1s'"
"""Whoever waits for a lock on a table makes all others wait behind it: not for longer than this."""
MIGRATE_AGAIN_AFTER: Final = 1.0
NO_HURRY: Final = 86_400.0
"""Seconds for a migration, instead of those that a statement has."""

if TYPE_CHECKING:
    Pool = asyncpg.Pool[asyncpg.Record]
    Connection = (
        asyncpg.Connection[asyncpg.Record] | asyncpg.pool.PoolConnectionProxy[asyncpg.Record]
    )
else:
    Pool = asyncpg.Pool
    Connection = asyncpg.Connection | asyncpg.pool.PoolConnectionProxy

AWAY: Final = (
    OSError,
    TimeoutError,
    asyncpg.PostgresConnectionError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,  # a connection that is lost in the midst of beginning something
    asyncpg.OperatorInterventionError,  # shutting down, starting up, cancelled
    asyncpg.InsufficientResourcesError,  # disk full, too many connections
    asyncpg.TransactionRollbackError,  # deadlock
    asyncpg.ReadOnlySQLTransactionError,  # a standby, in the middle of a failover
)
"""What asyncpg raises where the server, not the statement, is at fault: worth another try."""


class DatabaseTooOld(Exception):
    """The PostgreSQL server lacks what mediabus relies on."""


class CannotLogIn(Exception):
    """PostgreSQL does not take our name or password, or has no such database."""


NOT_LET_IN: Final = (
    asyncpg.InvalidAuthorizationSpecificationError,
    asyncpg.InvalidCatalogNameError,
)


@contextlib.asynccontextmanager
async def open_pool(
    settings: DatabaseSettings, *, url: str | None = None, size: int | None = None
) -> AsyncIterator[Pool]:
    """A pool of connections, opened as soon as the server is there; it waits for ever."""
    dsn = url or settings.url
    if dsn is None:
        raise SettingsError("no database: set MEDIABUS_DATABASE_URL, or use `mediabus up`")
    pool = await _when_there(dsn, settings, size or settings.pool_size)
    try:
        yield pool
    finally:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(pool.close(), timeout=3)
        pool.terminate()


async def _when_there(dsn: str, settings: DatabaseSettings, size: int) -> Pool:
    told = False
    while True:
        try:
            return await asyncpg.create_pool(
                dsn,
                password=settings.password,
                min_size=1,
                max_size=size,
                timeout=5,
                command_timeout=STATEMENT_WITHIN,
                init=_prepare,
                reset=_leave_as_it_is,
                server_settings={"application_name": "mediabus", "jit": "off"},
            )
        except (ValueError, OverflowError):  # it would quote the password
            raise SettingsError(
                "settings: database.url, or events_url, is no URL of PostgreSQL: "
                "postgresql://user@host:5432/name"
            ) from None
        except NOT_LET_IN as error:
            raise CannotLogIn(
                f"PostgreSQL does not let us in: {error}: look at MEDIABUS_DATABASE_URL and "
                "MEDIABUS_DATABASE_PASSWORD"
            ) from error
        except AWAY as error:
            if not told:
                log.info("waiting for PostgreSQL", extra={"reason": str(error)})
                told = True
        await asyncio.sleep(0.25)


async def _prepare(connection: Connection) -> None:
    version = connection.get_server_version()
    if version.major < NEEDS_SERVER:
        raise DatabaseTooOld(
            f"PostgreSQL {version.major} is too old: mediabus needs {NEEDS_SERVER} or newer"
        )
    await connection.set_type_codec(
        "jsonb", schema="pg_catalog", format="text", encoder=_json_text, decoder=msgspec.json.decode
    )


async def _leave_as_it_is(_: Connection) -> None:
    """Nobody here changes a session's settings, so giving a connection back costs no round trip."""


def _json_text(value: object) -> str:
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()


def migrations() -> dict[int, str]:
    """Every migration, by its number."""
    folder = resources.files("service.runtime") / "migrations"
    files = [file for file in folder.iterdir() if file.name.endswith(".sql")]
    numbered = {int(file.name.partition("_")[0]): file for file in files}
    return {number: numbered[number].read_text(encoding="utf-8") for number in sorted(numbered)}


def _file(name: str) -> str:
    return (resources.files("service.runtime") / name).read_text(encoding="utf-8")


async def migrate(pool: Pool) -> list[int]:
    """Applies what is missing, under a lock that lets one process do it, and says which. Processes
    of the version before may be at work meanwhile. Whatever roles there are may do their work
    afterwards."""
    applied = []
    async with pool.acquire() as connection:
        await connection.execute("SELECT pg_advisory_lock($1)", MIGRATION_LOCK, timeout=NO_HURRY)
        try:
            current = await _schema_version(connection)
            _tell_of_newer(current)
            for number, statements in migrations().items():
                if number > current:
                    await _apply(connection, number, statements)
                    applied.append(number)
            await connection.execute(_file("grants.sql"))
        finally:
            await connection.execute("SELECT pg_advisory_unlock($1)", MIGRATION_LOCK)
    return applied


async def _apply(connection: Connection, number: int, statements: str) -> None:
    """Applies a migration, whole or not at all, once the locks that it needs are free."""
    while True:
        try:
            async with connection.transaction():
                await connection.execute(LIMIT_LOCK_WAIT)
                await connection.execute(statements, timeout=NO_HURRY)
                await connection.execute(RECORD_MIGRATION, number)
        except (asyncpg.LockNotAvailableError, asyncpg.DeadlockDetectedError) as error:
            log.warning("migration %d waits until others are done: %s", number, error)
            await asyncio.sleep(MIGRATE_AGAIN_AFTER)
        else:
            return


def _tell_of_newer(version: int) -> None:
    """A migration leaves the version before able to work, so that there is a way back."""
    known = max(migrations())
    if version > known:
        log.warning(
            "the database is of a newer mediabus: its schema has number %d, this one knows %d",
            version,
            known,
        )


async def wait_until_migrated(pool: Pool) -> None:
    """Waits until ``mediabus migrate`` has brought the schema to what this program knows, and has
    let this role read it."""
    told = False
    while True:
        try:
            async with pool.acquire() as connection:
                version = await _schema_version(connection)
            if version >= max(migrations()):
                _tell_of_newer(version)
                return
            reason = f"it has number {version} and must have {max(migrations())}"
        except (*AWAY, asyncpg.InsufficientPrivilegeError) as error:
            reason = str(error)
        if not told:
            words = "waiting for the database schema: run `mediabus migrate`"
            log.info(words, extra={"reason": reason})
            told = True
        await asyncio.sleep(0.5)


CREATE_MIGRATIONS: Final = """
CREATE TABLE IF NOT EXISTS mediabus_migrations (
    number integer PRIMARY KEY, applied_at timestamptz NOT NULL DEFAULT now())
"""
SCHEMA_VERSION: Final = "SELECT coalesce(max(number), 0) FROM mediabus_migrations"
RECORD_MIGRATION: Final = "INSERT INTO mediabus_migrations (number) VALUES ($1)"


async def _schema_version(connection: Connection) -> int:
    if await connection.fetchval("SELECT to_regclass('mediabus_migrations')") is None:
        try:
            await connection.execute(CREATE_MIGRATIONS)
        except (asyncpg.UniqueViolationError, asyncpg.InsufficientPrivilegeError):
            return 0  # another process is making it, or we are not the one who may
    version: int = await connection.fetchval(SCHEMA_VERSION)
    return version
