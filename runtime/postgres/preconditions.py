"""Check the PostgreSQL server and a pooler in front of it, before the pool is opened."""

import contextlib
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any, Final
from uuid import uuid4

import asyncpg

NEEDS_SERVER: Final = 15
"""The oldest major version of PostgreSQL that mediabus is tested with."""

POOLER_PROBES: Final = 5
POOLER_TIMEOUT: Final = 3.0


class DatabaseTooOld(Exception):
    """The PostgreSQL server is older than mediabus supports."""


class DatabaseUnfit(Exception):
    """The database, or the pooler in front of it, is set up so that mediabus cannot work."""


class NotReady(Exception):
    """The database is read-only, a standby or being restored. This may change."""


KEEPS_NO_STATEMENTS: Final = (
    "the pooler before PostgreSQL (PgBouncer?) uses another connection for each transaction, and "
    "keeps no prepared statements: set pool_mode = session for this database, or "
    "max_prepared_statements = 200 (PgBouncer 1.21 or newer), or connect to PostgreSQL itself"
)
"""asyncpg uses the same names of prepared statements in every process, so such a pooler could run
the statement of another process."""

MAKE_ANOTHER: Final = (
    "make another with CREATE DATABASE mediabus ENCODING 'UTF8' TEMPLATE template0"
)

STATE: Final = """
SELECT current_schema() IS NOT NULL AS has_schema, pg_is_in_recovery() AS is_standby,
       current_setting('transaction_read_only') = 'on' AS is_read_only,
       pg_backend_pid() AS backend, current_database() AS name
"""
BACKEND: Final = "SELECT pg_backend_pid()"
SAFE_DEFAULTS: Final = {
    "synchronous_commit": "on",
    "default_transaction_isolation": "read committed",
}
UNSAFE_DEFAULTS: Final = """
SELECT name, reset_val FROM pg_settings
WHERE name = 'synchronous_commit' AND reset_val = 'off'
   OR name = 'default_transaction_isolation' AND reset_val <> 'read committed'
ORDER BY name
"""
"""Settings that ``database.SESSION`` overrides, as a new session has them."""

if TYPE_CHECKING:
    Connection = asyncpg.Connection[asyncpg.Record]
else:
    Connection = asyncpg.Connection


async def check_database(arguments: dict[str, Any]) -> None:
    """Connect with the given arguments of asyncpg.connect and check the server.

    Raises DatabaseTooOld, DatabaseUnfit or NotReady.
    """
    async with _connected(arguments) as connection:
        _check_server(connection)
        async with connection.transaction():
            [state] = await connection.fetch(STATE)
        if state["backend"] != connection.get_server_pid():
            async with _connected(arguments) as other:
                if await _is_shared(connection, other):
                    await check_defaults(connection)
        _check_state(state)


@contextlib.asynccontextmanager
async def _connected(arguments: dict[str, Any]) -> AsyncIterator[Connection]:
    """Connect without named prepared statements, which works with every pooler."""
    try:
        connection = await asyncpg.connect(**{**arguments, "statement_cache_size": 0})
    except asyncpg.PostgresConnectionError as error:
        _explain_pooler(error)
        raise
    try:
        yield connection
    except asyncpg.PostgresConnectionError as error:
        _explain_pooler(error)
        raise
    finally:
        connection.terminate()


def _explain_pooler(error: Exception) -> None:
    """Raise DatabaseUnfit if the settings of a pooler refuse the connection."""
    message = str(error)
    if "unsupported startup parameter" in message:
        name = message.rpartition(":")[2].strip()
        raise DatabaseUnfit(
            f"the pooler in front of PostgreSQL reports {message!r}: add {name} to its "
            "ignore_startup_parameters, or remove it from database.url"
        ) from error
    if "statement pooling mode" in message:
        raise DatabaseUnfit(KEEPS_NO_STATEMENTS) from error


def _check_server(connection: Connection) -> None:
    version = connection.get_server_version()
    if version.major < NEEDS_SERVER:
        raise DatabaseTooOld(
            f"PostgreSQL {version.major} is too old: mediabus needs {NEEDS_SERVER} or newer"
        )
    encoding = str(getattr(connection.get_settings(), "server_encoding", "UTF8"))
    if encoding.upper().replace("-", "") != "UTF8":
        raise DatabaseUnfit(
            f"the database has the encoding {encoding}, and mediabus needs UTF8: {MAKE_ANOTHER}"
        )


def _check_state(state: asyncpg.Record) -> None:
    if state["is_standby"]:
        raise NotReady(
            "PostgreSQL is a standby, which is read-only: set MEDIABUS_DATABASE_URL to the "
            "primary, or add target_session_attrs=read-write to it"
        )
    if state["is_read_only"]:
        raise NotReady(
            f"the database {state['name']} is read-only: check default_transaction_read_only"
        )
    if not state["has_schema"]:
        raise NotReady(
            "search_path names no schema that exists: create one, such as CREATE SCHEMA public"
        )


async def _is_shared(connection: Connection, other: Connection) -> bool:
    """Return whether the pooler runs each transaction on a connection that others use, too.

    In session mode the connection stays the same.

    Raises:
        DatabaseUnfit: if the pooler loses prepared statements: in transaction mode it may run a
            statement on a connection where it was not prepared.
    """
    async with connection.transaction():
        prepared_on = await connection.fetchval(BACKEND)
        statement = await connection.prepare("SELECT 1", name=str(uuid4()))
    within = POOLER_TIMEOUT
    for _ in range(POOLER_PROBES):
        try:
            await other.execute("BEGIN", timeout=within)  # occupies the most recently used one
            await connection.execute("BEGIN", timeout=within)
            if await connection.fetchval(BACKEND, timeout=within) != prepared_on:
                await statement.fetchval(timeout=within)
                await connection.execute("COMMIT")
                return True
        except (asyncpg.InvalidSQLStatementNameError, TimeoutError) as error:
            raise DatabaseUnfit(KEEPS_NO_STATEMENTS) from error
        await connection.execute("COMMIT")
        await other.execute("COMMIT")
    return False


async def check_defaults(connection: Connection) -> None:
    """Raise DatabaseUnfit if mediabus would need settings of the session.

    A pooler in transaction mode applies a SET to one connection, and a transaction may run on
    another one.
    """
    for name, value in await connection.fetch(UNSAFE_DEFAULTS):
        raise DatabaseUnfit(
            f"{name} is {value!r} for this role and database, and mediabus cannot change it: the "
            "pooler before PostgreSQL uses another connection for each transaction. Change it for "
            f"the role to {SAFE_DEFAULTS[name]!r}, or set pool_mode = session"
        )
