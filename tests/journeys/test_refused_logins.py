"""PostgreSQL refuses logins, or is restored: every process waits, and goes on."""

import asyncio
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import asyncpg
import msgspec
import nats
import pytest
from nats.errors import Error as NatsError

from mediabus.runtime.postgres.database import open_pool
from mediabus.runtime.postgres.schema import migrate
from mediabus.runtime.settings import DatabaseSettings, Settings
from tests.support.eventually import eventually
from tests.support.library import Library, Refused
from tests.support.processes import Process, processes
from tests.support.servers import PostgresServer, postgres_server

OPEN = "host all all 127.0.0.1/32 trust\n"
SHUT = "host all administrator 127.0.0.1/32 trust\n"
END_OTHERS = """
SELECT pg_terminate_backend(pid) FROM pg_stat_activity
WHERE pid <> pg_backend_pid() AND usename = 'postgres'
"""


@pytest.fixture
def own() -> Iterator[PostgresServer]:
    """A PostgreSQL to lock and to restore."""
    with (
        tempfile.TemporaryDirectory(prefix="mediabus-") as directory,
        postgres_server(Path(directory)) as server,
    ):
        yield server


@pytest.fixture
async def administrator(
    own: PostgresServer,
) -> AsyncIterator["asyncpg.Connection[asyncpg.Record]"]:
    """A connection that nothing ends."""
    async with open_pool(DatabaseSettings(url=own.url)) as pool:
        await migrate(pool)
        await pool.execute("CREATE ROLE administrator SUPERUSER LOGIN")
    connection = await asyncpg.connect(own.url.replace("postgres@", "administrator@"))
    yield connection
    await connection.close()


async def refuse_logins(own: PostgresServer, by: "asyncpg.Connection[asyncpg.Record]") -> None:
    (own.data / "pg_hba.conf").write_text(SHUT)
    await by.execute("SELECT pg_reload_conf()")
    await eventually(lambda: is_refused(own.url))
    await by.execute(END_OTHERS)


async def let_in_again(own: PostgresServer, by: "asyncpg.Connection[asyncpg.Record]") -> None:
    (own.data / "pg_hba.conf").write_text(OPEN)
    await by.execute("SELECT pg_reload_conf()")


async def is_refused(url: str) -> bool:
    try:
        await (await asyncpg.connect(url)).close()
    except asyncpg.InvalidAuthorizationSpecificationError:
        return True
    return False


async def drop_the_schema(_: PostgresServer, by: "asyncpg.Connection[asyncpg.Record]") -> None:
    await by.execute("ALTER SCHEMA public RENAME TO elsewhere")


async def bring_it_back(_: PostgresServer, by: "asyncpg.Connection[asyncpg.Record]") -> None:
    await by.execute("ALTER SCHEMA elsewhere RENAME TO public")


async def allow_connections(own: PostgresServer, allowed: str) -> None:
    """From another database: none can be closed from within."""
    elsewhere = await asyncpg.connect(own.url_of("template1"))
    await elsewhere.execute(f"ALTER DATABASE postgres ALLOW_CONNECTIONS {allowed}")
    await elsewhere.close()


async def close_the_database(own: PostgresServer, by: "asyncpg.Connection[asyncpg.Record]") -> None:
    await allow_connections(own, "false")
    await by.execute(END_OTHERS)


async def open_the_database(own: PostgresServer, _: "asyncpg.Connection[asyncpg.Record]") -> None:
    await allow_connections(own, "true")


OUTAGES = {
    "logins refused": (refuse_logins, let_in_again),
    "schema restored": (drop_the_schema, bring_it_back),
    "no connections allowed": (close_the_database, open_the_database),
}


async def works(user: Library) -> bool:
    try:
        await user.ask("media.create", {"type": "tv_show", "title": "A"}, timeout=2)
    except (Refused, NatsError, TimeoutError):
        return False
    return True


def live(process: Process) -> bool:
    assert process.is_ready in {True, False}  # and it has not ended
    return process.is_ready


@pytest.mark.parametrize("outage", OUTAGES)
async def test_every_process_outlives_it(
    own: PostgresServer,
    administrator: "asyncpg.Connection[asyncpg.Record]",
    settings: Settings,
    tmp_path: Path,
    outage: str,
) -> None:
    begin, end = OUTAGES[outage]
    here = msgspec.structs.replace(settings, database=DatabaseSettings(url=own.url))
    with processes(here, tmp_path, "service", "monitor", "persist") as started:
        nc = await nats.connect(settings.nats.url or "")
        user = Library(nc, None)  # type: ignore[arg-type]  # it only asks
        await eventually(lambda: works(user), within=20)
        await begin(own, administrator)
        for _ in range(12):  # longer than a lease, a poll and a first patience
            await asyncio.sleep(0.5)
            for process in started:
                live(process)
        assert not await works(user)
        await end(own, administrator)
        await eventually(lambda: works(user), within=40)
        await eventually(lambda: all(live(process) for process in started), within=40)
        await nc.close()
    count = "SELECT count(*) > 1 FROM media_items"
    assert await administrator.fetchval(count)
