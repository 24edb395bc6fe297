"""The connection pool of PostgreSQL, and the errors that a retry may cure."""

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any, Final

import asyncpg
import msgspec

from mediabus.runtime.error_text import error_text
from mediabus.runtime.postgres.database_url import connect_arguments, refused
from mediabus.runtime.postgres.preconditions import DatabaseUnfit, NotReady, check_database
from mediabus.runtime.settings import DatabaseSettings, SettingsError

log: Final = logging.getLogger("mediabus.database")

STATEMENT_TIMEOUT: Final = 60.0

RETRY_AFTER: Final = 0.25
RETRY_LOGIN_AFTER: Final = 2.0
REPEAT_LOG_AFTER: Final = 60.0

SESSION: Final = """
SET jit = off;
SET default_transaction_isolation = 'read committed';
SELECT set_config('synchronous_commit', 'on', false)
WHERE current_setting('synchronous_commit') = 'off'
"""
"""Settings of each session. They make commits durable and override the role and the database."""

JSONB: Final = b"\x01"
"""The version that precedes the JSON in PostgreSQL's binary format of ``jsonb``."""

if TYPE_CHECKING:
    Pool = asyncpg.Pool[asyncpg.Record]
    Connection = (
        asyncpg.Connection[asyncpg.Record] | asyncpg.pool.PoolConnectionProxy[asyncpg.Record]
    )
else:
    Pool = asyncpg.Pool
    Connection = asyncpg.Connection | asyncpg.pool.PoolConnectionProxy

NOT_LET_IN: Final = (
    asyncpg.InvalidAuthorizationSpecificationError,
    asyncpg.InvalidCatalogNameError,
)
"""Errors if the role, the password or the database is wrong."""

AWAY: Final = (
    OSError,
    TimeoutError,
    asyncpg.PostgresConnectionError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,  # the connection was lost while a statement was being started
    asyncpg.OperatorInterventionError,  # shutting down, starting up, cancelled
    asyncpg.InsufficientResourcesError,  # disk full, too many connections
    asyncpg.TransactionRollbackError,  # deadlock
    asyncpg.ReadOnlySQLTransactionError,  # a standby, in the middle of a failover
    asyncpg.ObjectNotInPrerequisiteStateError,  # the database accepts no connections at the moment
    *NOT_LET_IN,  # during a failover or a restore: the login worked before
)
"""Errors that the server causes, not the statement. A retry may succeed."""

RESTORING: Final = (
    asyncpg.UndefinedTableError,
    asyncpg.UndefinedFunctionError,
    asyncpg.InvalidSchemaNameError,
    asyncpg.InsufficientPrivilegeError,
)
"""Errors while a backup is being restored: tables, functions and grants appear one by one."""


class CannotLogIn(Exception):
    """PostgreSQL refuses the role or the password, or the database does not exist."""


@contextlib.asynccontextmanager
async def open_pool(
    settings: DatabaseSettings,
    *,
    url: str | None = None,
    size: int | None = None,
    patient: bool = False,
) -> AsyncIterator[Pool]:
    """Open a connection pool. Wait until the server is reachable, without limit.

    With ``patient``, also wait while the login is refused or the database is read-only.

    Raises:
        CannotLogIn: if the login is refused.
        DatabaseUnfit: if the database is read-only, or set up so that mediabus cannot work.
        SettingsError: if the URL is missing or cannot be used.
    """
    dsn = url or settings.url
    if dsn is None:
        raise SettingsError(
            "no database is configured: set MEDIABUS_DATABASE_URL, or use `mediabus up`"
        )
    pool = await _when_there(dsn, settings, size or settings.pool_size, patient=patient)
    try:
        yield pool
    finally:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(pool.close(), timeout=3)
        pool.terminate()


async def _when_there(dsn: str, settings: DatabaseSettings, size: int, *, patient: bool) -> Pool:
    arguments = connect_arguments(dsn, settings.password)
    wait = _WaitLog()
    while True:
        try:
            await check_database(arguments)
            return await _pool(arguments, size)
        except (ValueError, OverflowError) as error:
            raise refused(error) from None  # the cause may quote the password
        except NOT_LET_IN as error:
            refusal = CannotLogIn(
                f"PostgreSQL refused the login: {error}. Check MEDIABUS_DATABASE_URL and "
                "MEDIABUS_DATABASE_PASSWORD"
            )
            if not patient:
                raise refusal from error
            wait.note(refusal, level=logging.WARNING)
            await asyncio.sleep(RETRY_LOGIN_AFTER)
        except NotReady as error:
            if not patient:
                raise DatabaseUnfit(str(error)) from error
            wait.note(error, level=logging.WARNING)
            await asyncio.sleep(RETRY_LOGIN_AFTER)
        except AWAY as error:
            wait.note(error, level=logging.INFO)
            await asyncio.sleep(RETRY_AFTER)


async def _pool(arguments: dict[str, Any], size: int) -> Pool:
    logging.getLogger("asyncpg.pool").addFilter(_in_one_line)
    return await asyncpg.create_pool(
        **arguments,
        min_size=1,
        max_size=size,
        command_timeout=STATEMENT_TIMEOUT,
        init=_prepare,
        reset=_leave_as_it_is,
    )


def _in_one_line(record: logging.LogRecord) -> bool:
    """Replace the traceback of asyncpg's log line about an outage by the error."""
    if record.exc_info and isinstance(record.exc_info[1], AWAY):
        record.msg = f"{record.msg}: {record.exc_info[1]!r}"
        record.exc_info = None
    return True


class _WaitLog:
    """Logs why PostgreSQL is not available: when the reason changes, and once a minute."""

    def __init__(self) -> None:
        self._last: tuple[str, float] | None = None

    def note(self, error: Exception, *, level: int) -> None:
        reason, now = error_text(error), time.monotonic()
        if self._last and self._last[0] == reason and now - self._last[1] < REPEAT_LOG_AFTER:
            return
        self._last = reason, now
        log.log(level, "waiting for PostgreSQL", extra={"reason": reason})


async def _prepare(connection: Connection) -> None:
    await connection.execute(SESSION)
    await connection.set_type_codec(
        "jsonb",
        schema="pg_catalog",
        format="binary",  # the only format that COPY takes
        encoder=_to_jsonb,
        decoder=_from_jsonb,
    )


async def _leave_as_it_is(_: Connection) -> None:
    """Skip the reset of a returned connection: nothing here changes a session's settings."""


def _to_jsonb(value: object) -> bytes:
    """Return a value in the binary format of ``jsonb``. A string is JSON already."""
    return JSONB + (value.encode() if isinstance(value, str) else msgspec.json.encode(value))


def _from_jsonb(value: bytes) -> Any:  # noqa: ANN401 - any JSON value
    return msgspec.json.decode(value[len(JSONB) :])
