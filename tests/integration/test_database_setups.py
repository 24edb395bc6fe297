"""Databases as providers, poolers and shells set them up: used, or refused with what to do."""

import asyncio
import contextlib
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import asyncpg
import pytest

from mediabus.runtime.postgres.database import AWAY, CannotLogIn, Pool, open_pool
from mediabus.runtime.postgres.lease import while_leading
from mediabus.runtime.postgres.preconditions import DatabaseUnfit
from mediabus.runtime.postgres.schema import migrate
from mediabus.runtime.settings import DatabaseSettings, Settings, SettingsError
from mediabus.wiring.registry import SERVICE
from tests.support.eventually import eventually
from tests.support.library import library, with_clients
from tests.support.pgbouncer import loses_statements, pgbouncer
from tests.support.servers import PostgresServer, postgres_server


@contextlib.asynccontextmanager
async def sibling(database_url: str, options: str) -> AsyncIterator[str]:
    """An empty database of its own, made with these options."""
    name = f"{database_url.rpartition('/')[2]}_sibling"
    connection = await asyncpg.connect(database_url)
    try:
        await connection.execute(f"CREATE DATABASE {name} {options}")
        yield f"{database_url.rpartition('/')[0]}/{name}"
        await connection.execute(f"DROP DATABASE {name} WITH (FORCE)")
    finally:
        await connection.close()


async def opens(url: str) -> int:
    async with asyncio.timeout(20), open_pool(DatabaseSettings(url=url), size=2) as pool:
        return int(await pool.fetchval("SELECT 1"))


NEON = "channel_binding=require&sslmode=prefer"
HEROKU = "sslmode=prefer&connect_timeout=10&application_name=library"
KEEPALIVES = "keepalives=1&keepalives_idle=30&keepalives_interval=10&keepalives_count=5"
SUPABASE = "pgbouncer=true&connection_limit=1&pool_timeout=10&supa=base-pooler.x"
SQLALCHEMY = "ssl=prefer&prepared_statement_cache_size=0"


@pytest.mark.parametrize(
    "query",
    [
        *(NEON, HEROKU, KEEPALIVES, SUPABASE, SQLALCHEMY),
        "options=-c%20search_path%3Dpublic",
        "options=-c%20statement_timeout%3D5000&tcp_user_timeout=1000",
        "target_session_attrs=read-write&load_balance_hosts=random",
        "statement_cache_size=0",
        "gssencmode=disable&sslsni=1&client_encoding=utf8",
        "connect_timeout=0",
    ],
)
async def test_parameters_of_providers_are_accepted(database_url: str, query: str) -> None:
    assert await opens(f"{database_url}?{query}") == 1


async def test_parameters_of_a_url_reach_the_server(database_url: str) -> None:
    url = f"{database_url}?application_name=library&options=-c%20work_mem%3D5MB&channel_binding=x"
    async with open_pool(DatabaseSettings(url=url)) as pool:
        assert await pool.fetchval("SHOW application_name") == "library"
        assert await pool.fetchval("SHOW work_mem") == "5MB"


@pytest.mark.parametrize("scheme", ["postgres", "postgresql+asyncpg", "postgresql+psycopg2"])
async def test_schemes_of_other_libraries_are_accepted(database_url: str, scheme: str) -> None:
    assert await opens(database_url.replace("postgresql", scheme, 1)) == 1


async def test_keywords_and_values_of_libpq_are_accepted(database_url: str) -> None:
    place, _, name = database_url.rpartition("@")[2].partition("/")
    host, _, port = place.partition(":")
    words = f"host={host} port = {port} dbname='{name}' user=postgres connect_timeout=3"
    assert await opens(words) == 1


async def test_the_first_host_that_answers_is_used(database_url: str) -> None:
    before, _, after = database_url.partition("@")
    assert await opens(f"{before}@127.0.0.1:1,{after}?target_session_attrs=any") == 1


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("postgresql://u:secret@h/d?chanel_binding=require", "no parameter 'chanel_binding'"),
        ("postgresql://u:secret@h/d?sslmode=sometimes", "sslmode.* must be one of"),
        ("postgresql://u:secret@h/d?connect_timeout=soon", "connect_timeout takes a whole number"),
        ("postgresql://u:secret@h/d?sslrootcert=/no/such.pem", "cannot read sslrootcert /no/such"),
        ("postgresql://u:secret@h/d?sslcert=/no/such.pem&sslkey=/no", "cannot read sslcert /no"),
        ("postgresql://u:secret@h/d?passfile=/no/such", "cannot read passfile /no/such"),
        ("postgresql://u:secret@h/d?statement_cache_size=-1", "statement_cache_size takes"),
        ("jdbc:postgresql://h/d?user=u&password=secret", "must begin with postgresql://"),
        ("mysql://u:secret@h/d", "must begin with postgresql://"),
        ("postgresql://u:secret@h:port/d", "not a PostgreSQL URL"),
        ("postgresql://u:secret@[h/d", "not a PostgreSQL URL"),
        ("postgresql://u:secret@h/d?novalue", "name=value"),
        ("postgresql://u:p@h:secret/d", "port must be a number"),
        ("postgresql://u:p@h:5432secret/d", "port must be a number"),
        ("postgresql://u:p@h:70000/secret", "port must be a number"),
        ("postgresql://u:p@h,:secret/d", "port must be a number"),
        ("postgresql://u:p/secret@h/d", "percent-encode"),
        ("postgresql://u:12/secret@h/d", "percent-encode"),
        ("postgresql://u:12#secret@h/d", "percent-encode"),
        ("postgresql://u:p@[secret]x/d", "percent-encode"),
        ("postgresql://u:p@h/d?port=secret", "port takes a number"),
        ("host=h user=u port=secret", "port takes a number"),
        ("postgresql://u:p@h/d?target_session_attrs=secret", "target_session_attrs must be one"),
    ],
)
async def test_an_unknown_parameter_is_named_without_secrets(url: str, said: str) -> None:
    with pytest.raises(SettingsError, match=said) as refused:
        await opens(url)
    assert "secret" not in str(refused.value)


async def test_pgbouncer_in_session_mode_works(database_url: str, settings: Settings) -> None:
    with pgbouncer(database_url, "session") as bouncer:
        async with open_pool(DatabaseSettings(url=bouncer.url)) as pool:
            assert await migrate(pool) == []
            rows = await asyncio.gather(*(pool.fetchval("SELECT $1::int", n) for n in range(50)))
            assert rows == list(range(50))
            assert await pool.fetchval("SHOW jit") == "off"
        database = DatabaseSettings(url=bouncer.url)
        through = Settings(data_dir=settings.data_dir, nats=settings.nats, database=database)
        async with library(with_clients(through)) as user:
            created = await user.ask("media.create", {"type": "tv_show", "title": "A"})
            await user.event("media_item.added", created["id"])


@pytest.mark.parametrize(
    ("pool_mode", "extra"),
    [
        ("transaction", ""),
        ("transaction", "default_pool_size = 1"),
        ("transaction", "server_round_robin = 1"),
        ("statement", ""),
    ],
)
async def test_pgbouncer_without_prepared_statements_is_refused(
    database_url: str, pool_mode: str, extra: str
) -> None:
    unfit = pytest.raises(DatabaseUnfit, match="set pool_mode = session for this database")
    extra = f"{extra}\n{loses_statements()}"
    with pgbouncer(database_url, pool_mode, extra) as bouncer, unfit:
        await opens(bouncer.url)


async def test_a_parameter_that_pgbouncer_refuses_is_named(database_url: str) -> None:
    unfit = pytest.raises(DatabaseUnfit, match="statement_timeout to its ignore_startup")
    with pgbouncer(database_url, "session") as bouncer, unfit:
        await opens(f"{bouncer.url}?statement_timeout=9")


@pytest.mark.parametrize("encoding", ["SQL_ASCII", "LATIN1"])
async def test_a_database_that_is_not_utf8_is_refused(database_url: str, encoding: str) -> None:
    options = f"ENCODING '{encoding}' TEMPLATE template0 LC_COLLATE 'C' LC_CTYPE 'C'"
    async with sibling(database_url, options) as url:
        with pytest.raises(DatabaseUnfit, match=f"has the encoding {encoding}, .* ENCODING 'UTF8'"):
            await opens(url)


async def alter(url: str, change: str) -> None:
    connection = await asyncpg.connect(url)
    await connection.execute("SET default_transaction_read_only = off")
    await connection.execute(f"ALTER DATABASE {url.rpartition('/')[2]} {change}")
    await connection.close()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("SET default_transaction_read_only = on", "is read-only: check default_transaction"),
        ("SET search_path = 'nowhere'", "search_path names no schema that exists"),
    ],
)
async def test_a_read_only_database_fails_commands_and_delays_daemons(
    database_url: str, change: str, said: str
) -> None:
    await alter(database_url, change)
    with pytest.raises(DatabaseUnfit, match=said):
        await opens(database_url)

    async def wait() -> int:
        async with open_pool(DatabaseSettings(url=database_url), patient=True) as pool:
            return int(await pool.fetchval("SELECT 1"))

    waiting = asyncio.create_task(wait())
    await asyncio.wait([waiting], timeout=0.5)
    assert not waiting.done()
    await alter(database_url, "RESET ALL")
    assert await asyncio.wait_for(waiting, 10) == 1


@pytest.mark.parametrize(
    ("change", "shown", "value"),
    [
        ("SET standard_conforming_strings = off", "standard_conforming_strings", "on"),
        ("SET default_transaction_isolation = 'serializable'", "transaction_isolation", None),
        ("SET synchronous_commit = off", "synchronous_commit", "on"),
        ("SET synchronous_commit = local", "synchronous_commit", "local"),
        ("SET jit = on", "jit", "off"),
    ],
)
async def test_harmful_settings_of_a_database_are_overridden(
    database_url: str, change: str, shown: str, value: str | None
) -> None:
    await alter(database_url, change)
    async with open_pool(DatabaseSettings(url=database_url)) as pool:
        assert await pool.fetchval(f"SHOW {shown}") == (value or "read committed")


@pytest.mark.parametrize(
    "change",
    [
        "SET standard_conforming_strings = off",
        "SET statement_timeout = '2s'",
        "SET idle_in_transaction_session_timeout = '20ms'",
        "SET timezone = 'Pacific/Kiritimati'",
        "SET datestyle = 'German'",
        "SET default_transaction_isolation = 'serializable'",
    ],
)
async def test_the_schema_is_created_under_any_database_setting(
    database_url: str, change: str
) -> None:
    async with sibling(database_url, "") as url:
        await alter(url, change)
        async with open_pool(DatabaseSettings(url=url), size=2) as pool:
            assert await migrate(pool)
            await pool.execute("SELECT ensure_events_partition('2026-01-31 23:30:00+00')")
            assert await pool.fetchval("SELECT to_regclass('events_2026_01')")


@pytest.fixture
def own() -> Iterator[PostgresServer]:
    """A PostgreSQL to stop, to lock and to open again."""
    with (
        tempfile.TemporaryDirectory(prefix="mediabus-") as directory,
        postgres_server(Path(directory)) as server,
    ):
        yield server


async def let_in(own: PostgresServer, rule: str, administrator: Pool | None) -> None:
    """Replaces pg_hba.conf, and ends every session but the administrator's."""
    (own.data / "pg_hba.conf").write_text(rule)
    if administrator:
        await administrator.execute("SELECT pg_reload_conf()")


OPEN = "host all all 127.0.0.1/32 trust\n"
SHUT = "host postgres administrator 127.0.0.1/32 trust\n"
END_OTHERS = """
SELECT pg_terminate_backend(pid) FROM pg_stat_activity
WHERE pid <> pg_backend_pid() AND usename = 'postgres'
"""


async def test_a_login_that_is_refused_for_a_while_is_an_outage(own: PostgresServer) -> None:
    administrator = await asyncpg.connect(own.url)
    await administrator.execute("CREATE ROLE administrator SUPERUSER LOGIN")
    await administrator.close()
    administrator = await asyncpg.connect(own.url.replace("postgres@", "administrator@"))
    async with open_pool(DatabaseSettings(url=own.url)) as pool:
        await migrate(pool)
        beats: list[float] = []

        async def work() -> None:
            beats.append(0)
            await asyncio.Event().wait()

        leading = asyncio.create_task(while_leading(pool, "test", work))
        await eventually(lambda: len(beats) == 1)
        await let_in(own, SHUT, None)
        await administrator.execute("SELECT pg_reload_conf()")
        await asyncio.sleep(0)
        await administrator.execute(END_OTHERS)
        with pytest.raises(AWAY):
            await pool.fetchval("SELECT 1")
        await asyncio.wait([leading], timeout=5)
        assert not leading.done()
        await let_in(own, OPEN, None)
        await administrator.execute("SELECT pg_reload_conf()")
        await eventually(lambda: len(beats) == 2, within=20)
        leading.cancel()
        await asyncio.wait([leading])
    await administrator.close()


async def test_a_wrong_password_fails_commands_and_delays_daemons(
    own: PostgresServer, caplog: pytest.LogCaptureFixture
) -> None:
    administrator = await asyncpg.connect(own.url)
    await administrator.execute("CREATE ROLE library LOGIN SUPERUSER PASSWORD 'before'")
    await let_in(own, "host all library 127.0.0.1/32 scram-sha-256\n" + OPEN, None)
    await administrator.execute("SELECT pg_reload_conf()")
    url = own.url.replace("postgres@", "library:now@")
    await eventually(lambda: is_refused(url))
    with pytest.raises(CannotLogIn, match="password authentication failed"):
        await opens(url)

    async def wait() -> int:
        async with open_pool(DatabaseSettings(url=url), patient=True) as pool:
            return int(await pool.fetchval("SELECT 1"))

    waiting = asyncio.create_task(wait())
    await eventually(lambda: "waiting for PostgreSQL" in caplog.text)
    await administrator.execute("ALTER ROLE library PASSWORD 'now'")
    assert await asyncio.wait_for(waiting, 10) == 1
    await administrator.close()


async def is_refused(url: str) -> bool:
    try:
        await (await asyncpg.connect(url)).close()
    except asyncpg.InvalidPasswordError:
        return True
    return False


async def test_operations_continue_after_a_restore_of_the_schema(
    settings: Settings,
) -> None:
    async with library(settings, (SERVICE,)) as user:
        await user.pool.execute("ALTER TABLE leases RENAME TO leases_gone")
        await user.pool.execute("ALTER TABLE outbox_cursor RENAME TO outbox_cursor_gone")
        await asyncio.sleep(2)  # more than a beat: the relay must meet it
        await user.pool.execute("ALTER TABLE outbox_cursor_gone RENAME TO outbox_cursor")
        await user.pool.execute("ALTER TABLE leases_gone RENAME TO leases")
        created = await user.ask("media.create", {"type": "tv_show", "title": "A"})
        assert created["title"] == "A"
