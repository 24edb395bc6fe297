"""`mediabus up` on a cluster of an older PostgreSQL, which the system's packages provide."""

import asyncio
import contextlib
import logging
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import asyncpg
import pytest

from chaos.disks import is_possible, mounted
from mediabus.runtime.embedded import ServerFailed, data_dir_lock, embedded_postgres
from mediabus.runtime.embedded.child import Program, run
from mediabus.runtime.embedded.postgres_cluster import Cluster, serving
from mediabus.runtime.embedded.postgres_programs import FOLDER, WHEEL, major_of, programs_of
from mediabus.runtime.embedded.postgres_server import PASSWORDS, _user_for, installed_postgres
from mediabus.runtime.embedded.postgres_upgrade import DATABASES
from mediabus.runtime.postgres.database import open_pool
from mediabus.runtime.postgres.schema import installation_id, migrate
from mediabus.runtime.settings import DatabaseSettings, SettingsError

ROOT = Path(__file__).parents[2]
OURS = major_of(installed_postgres(), None)
ROWS = 20_000
KEEP = f"CREATE TABLE kept AS SELECT n, md5(n::text) AS t FROM generate_series(1, {ROWS}) AS n"
SUM = "SELECT count(*)::text || md5(string_agg(t, ',' ORDER BY n)) FROM kept"
ROLE = "SELECT rolpassword FROM pg_authid WHERE rolname = 'anna'"

UP = """
import asyncio, sys
from pathlib import Path
from mediabus.runtime.embedded import data_dir_lock, embedded_postgres

async def main():
    async with data_dir_lock(Path(sys.argv[1])) as path, embedded_postgres(path):
        await asyncio.Event().wait()

asyncio.run(main())
"""


@pytest.fixture
def home() -> Iterator[Path]:
    """A data directory that PostgreSQL, as another user, may reach."""
    with tempfile.TemporaryDirectory(prefix="mediabus-upgrade-") as folder:
        Path(folder).chmod(0o711)
        yield Path(folder).resolve()


def old_programs() -> Path:
    """Return the newest programs of an older version. Without any, skip, or fail if CI is set."""
    assert OURS
    for major in range(OURS - 1, 12, -1):
        if found := programs_of(major, Path("/nonexistent"), None):
            return found
    reason = "no older PostgreSQL is installed: on Debian, apt install postgresql"
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)


async def old_cluster(home: Path, name: str = "postgres") -> Cluster:
    """Create a cluster by an older version in a data directory, with one table in it."""
    folder, programs = home / name, old_programs()
    user = _user_for(folder)
    folder.mkdir(mode=0o700)
    if user is not None:
        os.chown(folder, user, -1)
    cluster = Cluster(folder=folder, programs=programs, passwords=home / PASSWORDS, user=user)
    initdb = (cluster.program("initdb"), "-D", str(folder), "-U", "postgres", "--auth=trust")
    options = ("--encoding=UTF8", "--locale=C", "--no-sync")
    await run(
        Program(
            name="initdb", command=(*initdb, *options), log_file=cluster.logs / "old.log", user=user
        )
    )
    async with serving(cluster) as url:
        await fetch(url, KEEP)
    return cluster


async def fetch(url: str, query: str) -> object:
    connection = await asyncpg.connect(url)
    try:
        return await connection.fetchval(query)
    finally:
        await connection.close()


@contextlib.asynccontextmanager
async def up(home: Path) -> AsyncIterator[str]:
    async with data_dir_lock(home) as path, embedded_postgres(path) as url:
        yield url


def version_of(cluster: Path) -> int:
    return int((cluster / "PG_VERSION").read_text())


def names_in(home: Path) -> set[str]:
    return {path.name for path in home.iterdir()}


@pytest.mark.timeout(240)
async def test_older_cluster_is_upgraded_and_the_old_one_kept(
    home: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "mediabus.embedded")
    old = await old_cluster(home)
    major = version_of(old.folder)
    async with serving(old) as url:
        async with open_pool(DatabaseSettings(url=url), size=3) as pool:
            await migrate(pool)
            installation = await installation_id(pool)
        await fetch(url, "CREATE ROLE anna LOGIN PASSWORD 'secret'")
        await fetch(url, 'CREATE DATABASE "an other one"')
        before = (await fetch(url, SUM), await fetch(url, ROLE))
    async with up(home) as url:
        assert (await fetch(url, SUM), await fetch(url, ROLE)) == before
        connection = await asyncpg.connect(url)
        databases = [row[0] for row in await connection.fetch(DATABASES)]
        await connection.close()
        assert databases == ["an other one", "postgres"]
        async with open_pool(DatabaseSettings(url=url), size=3) as pool:
            assert await migrate(pool) == []
            assert await installation_id(pool) == installation
        wrong = (home / PASSWORDS).read_text().strip()[:-1]
        with pytest.raises(asyncpg.InvalidPasswordError):
            await asyncpg.connect(url.partition("?")[0], host=str(old.folder), password=wrong)
    assert (version_of(old.folder), version_of(home / f"postgres-{major}.old")) == (OURS, major)
    assert names_in(home) == {
        *("postgres", f"postgres-{major}.old", PASSWORDS, "logs", "mediabus.lock"),
    }
    async with up(home) as url:
        assert await fetch(url, SUM) == before[0]
    assert caplog.text.count("PostgreSQL is upgraded, the old data is kept") == 1


def kill_at(moment: Callable[[Path], bool], home: Path) -> None:
    """Start servers in a process of its own, and kill it once ``moment`` is true."""
    environment = {"PATH": os.defpath, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen([sys.executable, "-c", UP, str(home)], env=environment) as process:
        deadline = time.monotonic() + 60
        while not moment(home) and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.002)
        process.kill()


def is_restoring(home: Path) -> bool:
    return (home / "postgres.upgrading" / "postmaster.pid").exists()


def is_dumping(home: Path) -> bool:
    return (home / "postgres.dump" / "0").exists()


def is_begun(home: Path) -> bool:
    return (home / "postgres.dump").exists()


@pytest.mark.timeout(240)
async def test_upgrade_that_is_killed_starts_again(home: Path) -> None:
    old = await old_cluster(home)
    major = version_of(old.folder)
    for moment in (is_begun, is_dumping, is_restoring):
        await asyncio.to_thread(kill_at, moment, home)
        assert moment(home), moment.__name__
        assert version_of(old.folder) == major
    async with up(home) as url:
        assert str(await fetch(url, SUM)).startswith(str(ROWS))
    assert (version_of(old.folder), version_of(home / f"postgres-{major}.old")) == (OURS, major)
    assert not {"postgres.dump", "postgres.upgrading", "postgres.upgraded"} & names_in(home)


@pytest.mark.timeout(240)
async def test_upgrade_killed_between_its_renames_is_finished(home: Path) -> None:
    old = await old_cluster(home)
    kept = home / f"postgres-{version_of(old.folder)}.old"
    async with up(home) as url:
        await fetch(url, "CREATE TABLE new AS SELECT 42 AS answer")
    (home / "postgres").rename(home / "postgres.upgraded")  # the last rename did not happen
    (home / "postgres.dump").mkdir()
    async with up(home) as url:
        assert await fetch(url, "SELECT answer FROM new") == 42
    assert "postgres.dump" not in names_in(home)
    (home / "postgres").rename(home / "postgres.upgraded")  # nor the one before it
    kept.rename(home / "postgres")
    async with up(home) as url:
        assert str(await fetch(url, SUM)).startswith(str(ROWS))
        assert await fetch(url, "SELECT to_regclass('new')") is None
    assert kept.exists()
    assert "postgres.upgraded" not in names_in(home)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount")
@pytest.mark.timeout(240)
async def test_cluster_on_a_volume_of_its_own_is_upgraded_there(home: Path) -> None:
    reason = is_possible(home / "disk")
    if reason:
        pytest.skip(reason)
    with mounted(home / "postgres", 2000):
        old = await old_cluster(home, "postgres/data")
        major = version_of(old.folder)
        async with up(home) as url:
            assert str(await fetch(url, SUM)).startswith(str(ROWS))
        assert version_of(old.folder) == OURS
        assert names_in(home / "postgres") == {"data", f"data-{major}.old", "logs"}


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount")
async def test_upgrade_without_room_is_refused_and_changes_nothing(home: Path) -> None:
    reason = is_possible(home / "disk")
    if reason:
        pytest.skip(reason)
    with mounted(home / "disk", 200):
        old = await old_cluster(home / "disk")
        before = version_of(old.folder)
        with pytest.raises(SettingsError, match=r"needs [\d,]+ MB of free space and has \d+ MB"):
            async with up(home / "disk"):
                pass
        assert version_of(old.folder) == before
        assert names_in(home / "disk") == {"postgres", PASSWORDS, "logs", "mediabus.lock"}
        async with serving(old) as url:
            assert str(await fetch(url, SUM)).startswith(str(ROWS))


async def test_upgrade_that_fails_keeps_the_old_data_and_frees_its_space(home: Path) -> None:
    old = await old_cluster(home)
    before = version_of(old.folder)
    async with serving(old) as url:
        await fetch(url, "CREATE EXTENSION pgcrypto")  # the wheel has no OpenSSL
    with pytest.raises(ServerFailed, match=r"(?s)pg_restore ended with 1.* pgcrypto"):
        async with up(home):
            pass
    assert names_in(home) == {"postgres", PASSWORDS, "logs", "mediabus.lock"}
    assert version_of(old.folder) == before
    async with serving(old) as url:
        await fetch(url, "DROP EXTENSION pgcrypto")
    async with up(home) as url:
        assert str(await fetch(url, SUM)).startswith(str(ROWS))


def cluster_of(home: Path, version: str) -> None:
    """Create a folder that looks like a cluster of another version."""
    folder = home / "postgres"
    folder.mkdir(mode=0o700)
    (folder / "PG_VERSION").write_text(f"{version}\n")
    if os.geteuid() == 0:
        os.chown(folder, _user_for(home / "nothing") or -1, -1)


@pytest.mark.parametrize(
    ("version", "words"),
    [
        ("9.6", "add the programs of 9 and start .* 'embedded-postgres==9"),
        ("99", r"is of PostgreSQL 99, .* which cannot read it: start the version of mediabus"),
    ],
)
async def test_cluster_that_cannot_be_upgraded_is_refused(
    home: Path, version: str, words: str
) -> None:
    cluster_of(home, version)
    with pytest.raises(SettingsError, match=words):
        async with up(home):
            pass
    assert names_in(home) == {"postgres", "mediabus.lock"}
    assert names_in(home / "postgres") == {"PG_VERSION"}


def test_programs_of_a_wheel_in_the_data_directory_are_used(home: Path) -> None:
    old = old_programs()
    major = major_of(old, None)
    assert major
    assert programs_of(major, home, None) == old
    wheel = home / FOLDER / WHEEL
    wheel.parent.mkdir(parents=True)
    wheel.symlink_to(old)
    assert programs_of(major, home, None) == wheel
    assert programs_of(major - 1, home, None) != wheel
