"""Servers for tests: one PostgreSQL per run with a database per test, and one NATS per test."""

import asyncio
import contextlib
import os
import shutil
import signal
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Final

import asyncpg
import hypothesis
import pytest

from mediabus.runtime.nats.bus import Bus, connect
from mediabus.runtime.nats.streams import ensure_streams
from mediabus.runtime.postgres.database import Pool, open_pool
from mediabus.runtime.postgres.schema import migrate
from mediabus.runtime.settings import DatabaseSettings, HttpSettings, NatsSettings, Settings
from tests.support.ports import free_port
from tests.support.servers import NatsServer, PostgresServer, nats_server

POSTGRES_URL: Final = "MEDIABUS_TEST_POSTGRES_URL"
"""How the workers of one run learn of its server: they are children of the one that starts it."""

hypothesis.settings.register_profile("mediabus", deadline=None)  # machines may be busy
hypothesis.settings.load_profile("mediabus")

# A script's background ignores SIGINT, and all that the tests start would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)

TEMPLATE: Final = "mediabus_template"

_server: PostgresServer | None = None


def pytest_configure(config: pytest.Config) -> None:
    """Start PostgreSQL in the parent process of the workers."""
    global _server  # noqa: PLW0603 - pytest passes no data between hooks
    if hasattr(config, "workerinput") or config.option.collectonly or not _needs_servers(config):
        return
    directory = Path(tempfile.mkdtemp(prefix="mediabus-postgres-"))
    _server = PostgresServer(directory, free_port())
    _server.start()
    os.environ[POSTGRES_URL] = _server.url
    asyncio.run(_make_template(_server.url))


def _needs_servers(config: pytest.Config) -> bool:
    """Unit tests need no server: `pytest tests/unit` runs in seconds, also without the wheels."""
    unit_tests = Path(__file__).parent / "unit"
    asked = (Path(argument.partition("::")[0]).resolve() for argument in config.args)
    return not all(path.is_relative_to(unit_tests) for path in asked)


async def _make_template(url: str) -> None:
    async with _administrator(url) as connection:
        await connection.execute(f"CREATE DATABASE {TEMPLATE}")
    async with open_pool(DatabaseSettings(url=_sibling(url, TEMPLATE), pool_size=2)) as pool:
        await migrate(pool)


def pytest_unconfigure(config: pytest.Config) -> None:
    """Stop PostgreSQL and remove its data."""
    if _server and not hasattr(config, "workerinput"):
        _server.stop()
        shutil.rmtree(_server.directory)


@contextlib.asynccontextmanager
async def _administrator(url: str) -> AsyncIterator["asyncpg.Connection[asyncpg.Record]"]:
    connection = await asyncpg.connect(url)
    try:
        yield connection
    finally:
        await connection.close()


def _sibling(url: str, name: str) -> str:
    return f"{url.rpartition('/')[0]}/{name}"


@pytest.fixture(autouse=True)
def _no_process_is_left_behind() -> Iterator[None]:
    """A test ends what it starts; what lives longer belongs to a fixture of a wider scope."""
    before = _children()
    yield
    deadline = time.monotonic() + 2
    while left := _children() - before:
        if time.monotonic() > deadline:
            commands = [Path(f"/proc/{pid}/cmdline").read_bytes() for pid in left]
            pytest.fail(f"left behind: {commands}")
        time.sleep(0.01)


def _children() -> set[int]:
    """Our child processes, but not those that are dead and only wait to be asked about."""
    listed = [_read(file) for file in Path("/proc/self/task").glob("*/children")]
    return {int(pid) for line in listed for pid in line.split() if not _is_dead(pid)}


def _read(file: Path) -> str:
    """What it holds; nothing, if its thread has ended since."""
    try:
        return file.read_text()
    except OSError:
        return ""


def _is_dead(pid: str) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


@pytest.fixture
async def database_url() -> AsyncIterator[str]:
    """A database of the test's own, migrated and empty."""
    server, name = os.environ[POSTGRES_URL], f"test_{os.getpid()}_{time.monotonic_ns()}"
    async with _administrator(server) as connection:
        await connection.execute(f"CREATE DATABASE {name} TEMPLATE {TEMPLATE} STRATEGY file_copy")
    yield _sibling(server, name)
    async with _administrator(server) as connection:
        await connection.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")


@pytest.fixture
def nats(tmp_path: Path) -> Iterator[NatsServer]:
    """A nats-server of the test's own, to stop, kill and start again as it likes."""
    directory = tmp_path / "nats"
    directory.mkdir()
    with nats_server(directory) as server:
        yield server


@pytest.fixture
def nats_url(nats: NatsServer) -> str:
    return nats.url


@pytest.fixture
def settings(nats_url: str, database_url: str, tmp_path: Path) -> Settings:
    """Both servers, and a data directory of the test's own."""
    return Settings(
        data_dir=str(tmp_path / "data"),
        nats=NatsSettings(url=nats_url),
        database=DatabaseSettings(url=database_url),
        http=HttpSettings(port=0),
    )


@pytest.fixture
async def bus(nats_url: str) -> AsyncIterator[Bus]:
    """A connection to NATS, with the streams and the bucket in place."""
    nats_settings = NatsSettings(url=nats_url)
    async with connect(nats_settings, name="test", wait=10) as connected:
        await ensure_streams(connected, nats_settings)
        yield connected


@pytest.fixture
async def pool(database_url: str) -> AsyncIterator[Pool]:
    """Connections to the test's database."""
    async with open_pool(DatabaseSettings(url=database_url)) as opened:
        yield opened
