"""The environment of the caller is for other programs: its own servers work as ever."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from mediabus.runtime.embedded import data_dir_lock, embedded_nats, embedded_postgres
from mediabus.runtime.nats.bus import connect
from mediabus.runtime.postgres.database import open_pool
from mediabus.runtime.postgres.schema import migrate
from mediabus.runtime.settings import DatabaseSettings, NatsSettings

FOR_OTHERS = {
    "for libpq": {
        "PGHOST": "/nowhere",
        "PGPORT": "1",
        "PGUSER": "somebody",
        "PGPASSWORD": "wrong",
        "PGDATABASE": "nothing",
        "PGPASSFILE": "/no/such",
        "PGSSLMODE": "verify-full",
        "PGSSLNEGOTIATION": "direct",
        "PGSSLROOTCERT": "/no/such.pem",
        "PGSSLCERT": "/no/such.pem",
        "PGSERVICE": "nobody",
        "PGSERVICEFILE": "/no/such",
        "PGTARGETSESSIONATTRS": "standby",
        "PGGSSLIB": "sspi",
        "PGKRBSRVNAME": "nobody",
        "PGOPTIONS": "-c search_path=nowhere",
        "PGCLIENTENCODING": "LATIN1",
        "PGTZ": "nowhere",
        "PGDATESTYLE": "German",
        "PGCONNECT_TIMEOUT": "soon",
        "PGAPPNAME": "x",
    },
    "a port that is none": {"PGPORT": "no port"},
    "for PostgreSQL's server": {"PGDATA": "/nowhere", "PG_TEST": "x", "PGDATESTYLE": "nonsense"},
    "a locale and a time zone that do not exist": {
        "LC_ALL": "xx_XX.UTF-8",
        "LANG": "xx_XX",
        "TZ": "Nowhere/Land",
    },
    "a proxy": {
        "HTTP_PROXY": "http://127.0.0.1:1",
        "HTTPS_PROXY": "http://127.0.0.1:1",
        "ALL_PROXY": "socks5://127.0.0.1:1",
        "NATS_URL": "nats://127.0.0.1:1",
        "NATS_USER": "x",
        "NATS_CREDS": "/no/such",
    },
}


@pytest.fixture
def home() -> Iterator[Path]:
    """A directory that the user of PostgreSQL may enter."""
    with tempfile.TemporaryDirectory(prefix="mediabus-embedded-") as folder:
        yield Path(folder).resolve()


@pytest.mark.parametrize("what", FOR_OTHERS)
async def test_embedded_servers_start_in_any_environment(
    home: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    for name, value in FOR_OTHERS[what].items():
        monkeypatch.setenv(name, value)
    async with (
        data_dir_lock(home) as path,
        embedded_nats(path) as url,
        embedded_postgres(path) as dsn,
        connect(NatsSettings(url=url), name="test", wait=10) as bus,
        open_pool(DatabaseSettings(url=dsn)) as pool,
    ):
        assert bus.is_connected
        assert await migrate(pool)
        assert await pool.fetchval("SHOW server_encoding") == "UTF8"
        assert await pool.fetchval("SHOW timezone") == "UTC"
