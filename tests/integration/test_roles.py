"""PostgreSQL's roles: each process does its work as its own, and may do nothing else."""

import asyncio
import contextlib
import datetime
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import asyncpg
import msgspec
import pytest
from nats.errors import NoRespondersError

from mediabus.consumers.persister.retention import DROP_PARTITION, ENSURE_PARTITION
from mediabus.runtime.nats.bus import connect
from mediabus.runtime.postgres.database import open_pool
from mediabus.runtime.postgres.schema import migrate
from mediabus.runtime.settings import DatabaseSettings, HttpSettings, NatsSettings, Settings
from mediabus.secure.database_roles import ROLES, roles_with_passwords
from mediabus.service.outbox.cursor import LAST_DRAWN
from mediabus.wiring.parts import parts_of, working
from mediabus.wiring.registry import MONITOR, PERSIST, SERVICE
from tests.support.apps import Sonarr
from tests.support.apps.acting import ACTS
from tests.support.apps.reading import with_apps
from tests.support.eventually import eventually
from tests.support.library import Library
from tests.support.servers import PostgresServer, postgres_server

OWNER = "library"


@pytest.fixture
async def logins() -> AsyncIterator[dict[str, DatabaseSettings]]:
    """A database whose owner is not a superuser, and its roles, all with passwords."""
    with (
        tempfile.TemporaryDirectory(prefix="mediabus-roles-") as folder,
        postgres_server(Path(folder)) as server,
    ):
        roles, passwords = roles_with_passwords()
        await _prepare(server, roles)
        url = server.url_of(OWNER)
        owner = DatabaseSettings(url=url.replace("postgres@", f"{OWNER}@"), password="its own")
        async with open_pool(owner, size=2) as pool:
            await migrate(pool)
        names = {name: url.replace("postgres@", f"mediabus_{name}_login@") for name in ROLES}
        yield {
            "owner": owner,
            **{n: DatabaseSettings(url=names[n], password=passwords[n]) for n in ROLES},
        }


async def _prepare(server: PostgresServer, roles: str) -> None:
    connection = await asyncpg.connect(server.url)
    try:
        await connection.execute(roles)
        await connection.execute(f"CREATE ROLE {OWNER} LOGIN PASSWORD 'its own'")
        await connection.execute(f"CREATE DATABASE {OWNER} OWNER {OWNER}")
        (server.data / "pg_hba.conf").write_text("host all all 127.0.0.1/32 scram-sha-256\n")
        await connection.execute("SELECT pg_reload_conf()")
    finally:
        await connection.close()


async def test_every_process_does_its_work_as_its_role(
    logins: dict[str, DatabaseSettings], nats_url: str
) -> None:
    def settings(role: str) -> Settings:
        return Settings(
            nats=NatsSettings(url=nats_url), database=logins[role], http=HttpSettings(port=0)
        )

    async with (
        working(settings("operations"), 0, parts_of(settings("operations"), (SERVICE,))) as service,
        working(settings("operations"), 0, parts_of(settings("operations"), (MONITOR,))) as monitor,
        working(settings("persister"), 0, parts_of(settings("persister"), (PERSIST,))) as persister,
        connect(NatsSettings(url=nats_url), name="user", wait=10) as bus,
        open_pool(logins["reader"], size=1) as pool,
        open_pool(logins["owner"], size=1) as owner,
    ):
        user = Library(bus.nc, pool)

        item = await eventually(lambda: _created(user), within=20)
        await user.ask("media.set_monitored", {"ids": [item["id"]], "monitored": False})
        await user.ask("media.delete", {"ids": [item["id"]]})
        await user.event("media_item.removed", item["id"])
        assert (await user.ask("history.list"))["items"][0]["type"] == "media_item.removed"
        await eventually(lambda: owner.fetchval("SELECT count(*) = 0 FROM outbox"), within=20)
        async with open_pool(logins["operations"], size=1) as operations:
            assert await operations.fetchval(LAST_DRAWN) == 3  # else the relay's cursor stays at 0
        assert not any(work.done() for work in (service, monitor, persister))


async def test_an_application_is_read_as_the_role_of_the_service(
    logins: dict[str, DatabaseSettings], nats_url: str
) -> None:
    plain = Settings(nats=NatsSettings(url=nats_url), http=HttpSettings(port=0))
    async with Sonarr.running() as sonarr:
        mine = with_apps(msgspec.structs.replace(plain, database=logins["operations"]), sonarr)
        other = msgspec.structs.replace(plain, database=logins["persister"])
        async with (
            working(mine, 0, parts_of(mine, (SERVICE,))) as service,
            working(other, 0, parts_of(other, (PERSIST,))),
            open_pool(logins["owner"], size=1) as owner,
        ):
            await eventually(lambda: owner.fetchval("SELECT max(read_at) FROM apps"), within=30)
            await ACTS["sonarr"](sonarr)
            files = "SELECT count(*) = 7 FROM events WHERE type LIKE 'media_file.%'"
            await eventually(lambda: owner.fetchval(files), within=30)
            assert not service.done()


async def _created(user: Library) -> Any:
    with contextlib.suppress(NoRespondersError):  # not yet
        return await user.ask("media.create", {"type": "movie", "title": "Dune", "year": 2021})


INSERT_EVENT = """
INSERT INTO events (id, occurred_at, category, type, severity, source, data)
VALUES ('01a20362-8ad5-7edb-ab30-b204b10c0f03', now(), 'a', 'a.b', 'info', 'a', '{}')
"""
MAY: list[tuple[str, str]] = [
    ("operations", "SELECT * FROM events"),
    ("operations", "SELECT * FROM outbox"),
    ("persister", "SELECT ensure_events_partition(now())"),
    ("persister", "SELECT drop_events_partition('events_2001_01')"),
    ("persister", INSERT_EVENT),
    ("reader", "SELECT * FROM events"),
    ("reader", "SELECT * FROM downloads"),
    ("reader", "SELECT * FROM media_items"),
]
MAY_NOT: list[tuple[str, str]] = [
    ("operations", INSERT_EVENT),
    ("operations", "DELETE FROM events"),
    ("operations", "DELETE FROM downloads"),
    ("operations", "TRUNCATE media_items"),
    ("operations", "SELECT drop_events_partition('events_2001_01')"),
    ("operations", "CREATE TABLE mine ()"),
    ("operations", "DROP TABLE events"),
    ("persister", "UPDATE events SET source = 'b'"),
    ("persister", "DELETE FROM events"),
    ("persister", "DROP TABLE events"),
    ("persister", "SELECT * FROM media_items"),
    ("persister", "SELECT * FROM outbox"),
    ("persister", "INSERT INTO leases (name, holder, beat) VALUES ('relay', gen_random_uuid(), 1)"),
    ("reader", INSERT_EVENT),
    ("reader", "DELETE FROM events"),
    ("reader", "UPDATE media_items SET title = 'b'"),
    ("reader", "INSERT INTO download_clients VALUES ('a', 'b', true, now())"),
    ("reader", "SELECT * FROM outbox"),
    ("reader", "SELECT ensure_events_partition(now())"),
    ("reader", "SELECT drop_events_partition('events_2001_01')"),
    ("reader", "SELECT FROM events_partitions_guard FOR UPDATE"),
    ("reader", "DO $$BEGIN LOCK mediabus_migration_lock IN ACCESS SHARE MODE; END$$"),
    ("reader", "DO $$BEGIN LOCK events IN SHARE MODE; END$$"),
    *((role, "CREATE TEMP TABLE mine ()") for role in ROLES),
    *((role, "CREATE ROLE another") for role in ROLES),
    *((role, "SELECT pg_read_file('/etc/passwd')") for role in ROLES),
]


async def test_no_role_may_do_more_than_its_work(logins: dict[str, DatabaseSettings]) -> None:
    for role, statement in MAY:
        async with open_pool(logins[role], size=1) as pool:
            await pool.execute(statement)
    for role, statement in MAY_NOT:
        async with open_pool(logins[role], size=1) as pool:
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await pool.execute(statement)


async def test_a_reader_has_few_connections_and_little_time(
    logins: dict[str, DatabaseSettings],
) -> None:
    async with contextlib.AsyncExitStack() as stack:
        pools = [open_pool(logins["reader"], size=1) for _ in range(10)]
        for pool in pools:
            opened = await stack.enter_async_context(pool)
        for setting in ("statement_timeout", "idle_in_transaction_session_timeout"):
            assert await opened.fetchval("SELECT current_setting($1)", setting) == "1min"
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(2), open_pool(logins["reader"], size=1):
                pass


async def test_the_persister_drops_nothing_but_partitions(
    logins: dict[str, DatabaseSettings],
) -> None:
    async with open_pool(logins["owner"], size=1) as owner:  # or it could not even try
        await owner.execute(f"GRANT TEMPORARY ON DATABASE {OWNER} TO mediabus_persister")
    async with open_pool(logins["persister"], size=1) as pool:
        for name in ("events", "media_items", "events_2001_01; DROP TABLE events", ""):
            with pytest.raises(asyncpg.RaiseError, match="no partition of events"):
                await pool.execute(DROP_PARTITION, name)
        moment = datetime.datetime(2001, 1, 15, tzinfo=datetime.UTC)
        await pool.execute("CREATE TEMP TABLE events (occurred_at timestamptz)")
        await pool.execute(ENSURE_PARTITION, moment)
        assert await pool.fetchval("SELECT to_regclass('public.events_2001_01')")
        await pool.execute(DROP_PARTITION, "events_2001_01")
        assert await pool.fetchval("SELECT to_regclass('public.events_2001_01')") is None


def test_the_statements_contain_no_password() -> None:
    roles, passwords = roles_with_passwords()
    assert len(set(passwords.values())) == len(ROLES)
    assert not any(password in roles for password in passwords.values())
