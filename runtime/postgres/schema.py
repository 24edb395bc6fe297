"""The database schema: migrations, applied once each and in order, and the installation's id."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from importlib import resources
from typing import Final

import asyncpg

from mediabus.runtime.postgres.database import AWAY, RESTORING, Connection, Pool
from mediabus.runtime.postgres.locks import LIMIT_LOCK_WAIT, lock_holders
from mediabus.runtime.postgres.preconditions import DatabaseUnfit

log: Final = logging.getLogger("mediabus.database")

MIGRATION_LOCK: Final = "LOCK TABLE mediabus_migration_lock IN SHARE UPDATE EXCLUSIVE MODE"
NO_LIMITS: Final = """
SELECT set_config(name, '0', true) FROM pg_settings
WHERE name IN ('statement_timeout', 'lock_timeout', 'transaction_timeout',
               'idle_in_transaction_session_timeout')
"""
"""Some providers set timeouts that are too short for a migration."""

RETRY_MIGRATION_AFTER: Final = 1.0
MIGRATION_TIMEOUT: Final = 86_400.0
"""Seconds for a statement of a migration."""

NAME_IS_TAKEN: Final = (
    asyncpg.DuplicateTableError,
    asyncpg.DuplicateFunctionError,
    asyncpg.DuplicateObjectError,
)
"""Errors of a migration if another program has tables of the same names in the database."""

IS_BEING_CREATED: Final = (
    asyncpg.UniqueViolationError,
    asyncpg.DuplicateTableError,
    asyncpg.DuplicateObjectError,
)
"""Errors of ``CREATE TABLE IF NOT EXISTS`` while another session creates the same table: which one
depends on how far that session is."""

RETRY_AFTER: Final = 2.0

CREATE_MIGRATIONS: Final = """
CREATE TABLE IF NOT EXISTS mediabus_migrations (
    number integer PRIMARY KEY, applied_at timestamptz NOT NULL DEFAULT now())
"""
CREATE_MIGRATION_LOCK: Final = "CREATE TABLE IF NOT EXISTS mediabus_migration_lock ()"
SCHEMA_VERSION: Final = "SELECT coalesce(max(number), 0) FROM mediabus_migrations"
RECORD_MIGRATION: Final = "INSERT INTO mediabus_migrations (number) VALUES ($1)"


def migrations() -> dict[int, str]:
    """Return the SQL of every migration, by number."""
    folder = resources.files("mediabus.runtime.postgres") / "migrations"
    files = [file for file in folder.iterdir() if file.name.endswith(".sql")]
    numbered = {int(file.name.partition("_")[0]): file for file in files}
    return {number: numbered[number].read_text(encoding="utf-8") for number in sorted(numbered)}


def _file(name: str) -> str:
    return (resources.files("mediabus.runtime.postgres") / name).read_text(encoding="utf-8")


async def migrate(pool: Pool, *, up_to: int | None = None) -> list[int]:
    """Apply the missing migrations and grant the roles their rights. Return the applied numbers.

    A lock makes processes migrate one at a time; processes of the previous version may keep
    running. ``up_to`` stops at an earlier schema and grants no rights.
    """
    applied = []
    async with pool.acquire() as connection, _migrating_alone(pool):
        current = await _schema_version(connection)
        _warn_if_newer(current)
        for number, statements in migrations().items():
            if current < number <= (up_to or number):
                await _apply(connection, number, statements)
                applied.append(number)
        if up_to is None:
            await _when_unlocked(connection, "granting rights", _file("grants.sql"))
    return applied


@contextlib.asynccontextmanager
async def _migrating_alone(pool: Pool) -> AsyncIterator[None]:
    """Hold the migration lock, which one process can have at a time.

    It is a lock on a table that no other role has rights on. Any login could take an advisory lock
    and block migrations.
    """
    async with pool.acquire() as connection:
        with contextlib.suppress(*IS_BEING_CREATED):
            await connection.execute(CREATE_MIGRATION_LOCK)
        async with connection.transaction():
            await _when_unlocked(connection, "migrate", MIGRATION_LOCK)
            await connection.execute(NO_LIMITS)
            yield


async def _apply(connection: Connection, number: int, statements: str) -> None:
    """Apply a migration in one transaction, once the locks that it needs are free."""
    what = f"migration {number}"
    await _when_unlocked(connection, what, statements, RECORD_MIGRATION.replace("$1", f"{number}"))


async def _when_unlocked(connection: Connection, what: str, *statements: str) -> None:
    """Execute statements in a transaction. Retry if a lock is not free within a second.

    Logs which sessions hold locks. Waiting longer would block all sessions behind this one.
    """
    while True:
        try:
            async with connection.transaction():
                await connection.execute(NO_LIMITS)
                await connection.execute(LIMIT_LOCK_WAIT)
                for statement in statements:
                    await connection.execute(statement, timeout=MIGRATION_TIMEOUT)
        except (asyncpg.LockNotAvailableError, asyncpg.DeadlockDetectedError) as error:
            held = "; ".join(await lock_holders(connection)) or "no session any more"
            log.warning("%s waits for a lock", what, extra={"reason": str(error), "held_by": held})
            await asyncio.sleep(RETRY_MIGRATION_AFTER)
        except NAME_IS_TAKEN as error:
            raise DatabaseUnfit(
                f"PostgreSQL: {error}, which mediabus did not create. Nothing was changed. Give "
                "mediabus a database of its own (MEDIABUS_DATABASE_URL)"
            ) from error
        else:
            return


def _warn_if_newer(version: int) -> None:
    """Log a warning if the schema is newer. The previous version still works, as a way back."""
    known = max(migrations())
    if version > known:
        log.warning(
            "the database is of a newer mediabus: its schema has number %d, this one knows %d",
            version,
            known,
        )


async def wait_until_migrated(pool: Pool) -> None:
    """Wait until ``mediabus migrate`` has migrated the schema and granted this role its rights."""
    is_logged = False
    while True:
        try:
            async with pool.acquire() as connection:
                version = await _schema_version(connection)
            if version >= max(migrations()):
                _warn_if_newer(version)
                return
            reason = f"the schema version is {version}, this version needs {max(migrations())}"
        except (*AWAY, *RESTORING) as error:
            reason = str(error)
        if not is_logged:
            log.info(
                "waiting for the database schema: run `mediabus migrate`", extra={"reason": reason}
            )
            is_logged = True
        await asyncio.sleep(0.5)


async def _schema_version(connection: Connection) -> int:
    if await connection.fetchval("SELECT to_regclass('mediabus_migrations')") is None:
        try:
            await connection.execute(CREATE_MIGRATIONS)
        except (*IS_BEING_CREATED, asyncpg.InsufficientPrivilegeError):
            return 0  # the other process has not finished, or this role may not
    version: int = await connection.fetchval(SCHEMA_VERSION)
    return version


INSTALLATION_ID: Final = "SELECT id::text FROM mediabus_installation"


async def installation_id(pool: Pool) -> str:
    """Return the id of the installation that the database belongs to. Waits for PostgreSQL."""
    while True:
        try:
            found: str = await pool.fetchval(INSTALLATION_ID)
        except (*AWAY, *RESTORING) as error:
            log.info("waiting for PostgreSQL", extra={"reason": str(error)})
            await asyncio.sleep(RETRY_AFTER)
        else:
            return found
