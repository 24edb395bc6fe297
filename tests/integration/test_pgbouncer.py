"""PgBouncer in transaction mode: everything works, or the start is refused with what to do."""

import asyncio
import contextlib
from collections.abc import Iterator

import asyncpg
import pytest

from mediabus.runtime.postgres.database import SESSION
from mediabus.runtime.postgres.preconditions import DatabaseUnfit, check_defaults
from mediabus.runtime.postgres.schema import migrate
from mediabus.runtime.settings import DatabaseSettings, Settings
from tests.support import commands
from tests.support.library import library, with_clients
from tests.support.pgbouncer import (
    KEEPS_STATEMENTS,
    PgBouncer,
    loses_statements,
    pgbouncer,
    version,
)

SAFE = "max_prepared_statements = 200\ndefault_pool_size = 5\nserver_round_robin = 1"
"""Few connections, and each transaction on another one."""


@contextlib.contextmanager
def transaction_mode(database_url: str) -> Iterator[PgBouncer]:
    """The set-up that docs/operations.md names, as far as this version knows it."""
    extra = SAFE if version() >= KEEPS_STATEMENTS else ""
    with pgbouncer(database_url, "transaction", extra) as bouncer:
        yield bouncer


async def works(settings: Settings, url: str) -> None:
    """Perform operations, and read their events from the history, all through the pooler."""
    through = Settings(
        data_dir=settings.data_dir, nats=settings.nats, database=DatabaseSettings(url=url)
    )
    async with library(with_clients(through)) as user:
        assert await migrate(user.pool) == []
        request = {"type": "tv_show", "title": "A"}
        made = await asyncio.gather(*(user.ask("media.create", request) for _ in range(50)))
        for item in made:
            await user.event("media_item.added", item["id"])
        page = await user.ask("history.list", {"limit": 100, "type": "media_item.added"})
        assert {event["resource_id"] for event in page["items"]} == {item["id"] for item in made}


async def test_transaction_mode_works_or_is_refused(settings: Settings, database_url: str) -> None:
    with transaction_mode(database_url) as bouncer:
        if version() >= KEEPS_STATEMENTS:
            await works(settings, bouncer.url)
            return
        with pytest.raises(DatabaseUnfit, match="or max_prepared_statements = 200"):
            await works(settings, bouncer.url)


async def test_session_mode_works(settings: Settings, database_url: str) -> None:
    with pgbouncer(database_url, "session") as bouncer:
        await works(settings, bouncer.url)


@pytest.mark.parametrize("command", ["service", "monitor", "persist", "migrate"])
async def test_a_process_that_loses_its_statements_ends_and_says_why(
    database_url: str, nats_url: str, command: str
) -> None:
    with pgbouncer(database_url, "transaction", loses_statements()) as bouncer:
        done = await commands.mediabus(
            command,
            MEDIABUS_DATABASE_URL=bouncer.url,
            MEDIABUS_NATS_URL=nats_url,
            MEDIABUS_HTTP_PORT="0",
        )
    assert done.code == 1
    assert "set pool_mode = session for this database" in done.out + done.err
    assert "Traceback" not in done.out + done.err


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ("synchronous_commit = off", "synchronous_commit"),
        ("default_transaction_isolation = 'serializable'", "default_transaction_isolation"),
    ],
)
async def test_defaults_that_only_a_session_could_change_are_refused(
    database_url: str, change: str, name: str
) -> None:
    database = database_url.rpartition("/")[2]
    administrator = await asyncpg.connect(database_url)
    await administrator.execute(f"ALTER DATABASE {database} SET {change}")
    await administrator.close()
    connection = await asyncpg.connect(database_url)
    await connection.execute(SESSION)
    assert await connection.fetchval(f"SHOW {name}") in {"on", "read committed"}
    with pytest.raises(DatabaseUnfit, match=f"{name} is .* Change it for the role to"):
        await check_defaults(connection)
    await connection.close()


async def test_defaults_of_postgresql_are_accepted(database_url: str) -> None:
    connection = await asyncpg.connect(database_url)
    await check_defaults(connection)
    await connection.close()
