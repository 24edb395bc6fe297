"""The servers that `mediabus up` brings along: they keep, come back, give way and leave."""

import asyncio
import contextlib
import logging
import os
import socket
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import asyncpg
import nats
import psutil
import pytest
from nats.errors import Error as NatsError

from chaos.disks import is_possible, mounted
from mediabus.runtime.embedded import (
    ServerFailed,
    child,
    data_dir_lock,
    embedded_nats,
    embedded_postgres,
)
from mediabus.runtime.nats.bus import CannotConnect, connect
from mediabus.runtime.settings import NatsSettings, SettingsError
from tests.support.eventually import eventually

ROOT = Path(__file__).parents[2]

UP = """
import asyncio, sys
from pathlib import Path
from mediabus.runtime.embedded import data_dir_lock, embedded_nats, embedded_postgres

async def main():
    async with (
        data_dir_lock(Path(sys.argv[1])) as path,
        embedded_nats(path) as url,
        embedded_postgres(path) as dsn,
    ):
        print(url, dsn, flush=True)
        await asyncio.Event().wait()

asyncio.run(main())
"""


@pytest.fixture
def home() -> Iterator[Path]:
    """A directory of the test, outside of pytest's folders.

    Each new run closes those to other users. If root runs the tests, PostgreSQL is another user.
    """
    with tempfile.TemporaryDirectory(prefix="mediabus-embedded-") as folder:
        yield Path(folder).resolve()


@contextlib.asynccontextmanager
async def up(data_dir: Path) -> AsyncIterator[tuple[str, str]]:
    """Both servers on a data directory; yields the URL and the DSN."""
    async with (
        data_dir_lock(data_dir) as path,
        embedded_nats(path) as url,
        embedded_postgres(path) as dsn,
    ):
        yield url, dsn


async def publish(url: str, body: bytes = b"") -> int:
    """Stores one more message, and says how many there are."""
    nc = await nats.connect(url)
    try:
        js = nc.jetstream()
        await js.add_stream(name="KEPT", subjects=["kept"])
        return (await js.publish("kept", body, timeout=2)).seq
    finally:
        await nc.close()


async def fetch(dsn: str, query: str) -> object:
    connection = await asyncpg.connect(dsn)
    try:
        return await connection.fetchval(query)
    finally:
        await connection.close()


def servers_on(data_dir: Path) -> list[psutil.Process]:
    """nats-server and the postmaster that work in this directory."""
    folders = (str(data_dir / "nats" / "nats-server.conf"), str(data_dir / "postgres"))
    found = {}
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if any(folder in process.cmdline() for folder in folders):
                found[process.pid] = process, process.ppid()
    # A child that PostgreSQL has just forked still has the command line of its parent.
    return [process for process, parent in found.values() if parent not in found]


def files_with(folder: Path, secrets: set[str]) -> list[Path]:
    """The files that hold one of the secrets."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    return [path for path in files if any(one.encode() in path.read_bytes() for one in secrets)]


NOBODY = 65534
AS_NOBODY = ("setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups")
PLAIN = {"PATH": os.defpath, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}


def is_alive(process: psutil.Process) -> bool:
    """Whether it runs; a dead one of a killed parent may wait to be reaped."""
    with contextlib.suppress(psutil.NoSuchProcess):
        return process.status() != psutil.STATUS_ZOMBIE
    return False


def is_there(path: str) -> bool:
    return Path(path).exists()


@contextlib.contextmanager
def up_as_a_process(
    data_dir: Path, *command: str, path: str = os.defpath
) -> Iterator[tuple["subprocess.Popen[str]", str, str]]:
    """The same in a process of its own, which the test may kill; takes its servers along."""
    process = subprocess.Popen(
        [*(command or (sys.executable,)), "-c", UP, str(data_dir)],
        cwd=ROOT,
        env=PLAIN | {"PATH": path},
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        try:
            assert process.stdout
            url, _, dsn = process.stdout.readline().strip().partition(" ")
            assert dsn, "it does not start"
            yield process, url, dsn
        finally:
            process.kill()
            _killed(servers_on(data_dir))


def _killed(processes: list[psutil.Process]) -> list[psutil.Process]:
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    return processes


async def test_a_quick_restart_keeps_the_data(home: Path) -> None:
    async with up(home) as (url, dsn):
        assert await publish(url) == 1
        await fetch(dsn, "CREATE TABLE kept AS SELECT 42 AS answer")
    began = time.monotonic()
    async with up(home) as (url_again, dsn_again):
        took = time.monotonic() - began
        assert (url_again, dsn_again) == (url, dsn)
        assert await publish(url) == 2
        assert await fetch(dsn, "SELECT answer FROM kept") == 42
    assert took < 3


async def test_postgresql_is_durable_and_reachable_by_socket_only(home: Path) -> None:
    async with up(home) as (_, dsn):
        assert await fetch(dsn, "SHOW fsync") == "on"
        assert await fetch(dsn, "SHOW synchronous_commit") == "on"
        assert await fetch(dsn, "SHOW listen_addresses") == ""
        assert await fetch(dsn, "SHOW unix_socket_permissions") == "0700"


async def test_a_login_without_the_password_is_refused(home: Path) -> None:
    async with up(home) as (url, dsn):
        nobody = NatsSettings(url=f"nats://{url.rpartition('@')[2]}")
        with pytest.raises(CannotConnect, match="Authorization Violation"):
            async with connect(nobody, name="nobody", wait=1):
                pass
        with pytest.raises(asyncpg.InvalidPasswordError):
            await fetch(f"postgresql://postgres@/postgres?host={dsn.partition('host=')[2]}", "")
        password = url.removeprefix("nats://mediabus:").partition("@")[0]
        passwords = (home / "postgres.passwords").read_text()
        secrets = {password, passwords.strip().rpartition(":")[2]}
        assert [len(secret) for secret in secrets] == [48, 48]
        for server in servers_on(home):
            assert not any(secret in word for word in server.cmdline() for secret in secrets)
            listening = [one.laddr.ip for one in server.net_connections("inet") if not one.raddr]
            assert set(listening) <= {"127.0.0.1"}
    holding = files_with(home, secrets)
    assert {path.name for path in holding} == {
        "nats-server.conf",
        "password",
        "postgres.passwords",
    }
    assert {stat.S_IMODE(path.stat().st_mode) for path in holding} == {0o600}


async def test_an_old_cluster_without_passwords_gets_one(home: Path) -> None:
    async with embedded_postgres(home) as dsn:
        await fetch(dsn, "CREATE TABLE kept AS SELECT 42 AS answer")
    rules = home / "postgres" / "pg_hba.conf"
    rules.write_text(rules.read_text().replace("scram-sha-256", "trust"))
    (home / "postgres.passwords").unlink()
    async with embedded_postgres(home) as dsn:
        assert await fetch(dsn, "SELECT answer FROM kept") == 42
        with pytest.raises(asyncpg.InvalidPasswordError):
            await fetch(f"postgresql://postgres@/postgres?host={dsn.partition('host=')[2]}", "")


async def test_nats_runs_with_early_garbage_collection(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Unless GOGC is set in the environment."""
    monkeypatch.delenv("GOGC", raising=False)
    async with embedded_nats(home):
        [server] = servers_on(home)
        assert server.environ()["GOGC"] == "20"
    monkeypatch.setenv("GOGC", "100")
    async with embedded_nats(home):
        [server] = servers_on(home)
        assert server.environ()["GOGC"] == "100"


async def test_nats_takes_another_port_and_keeps_it(
    home: Path,
) -> None:
    async with embedded_nats(home) as first:
        pass
    with socket.create_server(("127.0.0.1", int(first.rpartition(":")[2]))):
        async with embedded_nats(home) as second:
            assert second != first
            await publish(second)
    async with embedded_nats(home) as third:
        assert third == second


async def test_a_configured_port_is_used_or_refused(home: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        with pytest.raises(SettingsError, match=f"port {port} .* is in use"):
            async with embedded_nats(home, port):
                pass


async def test_a_killed_server_is_restarted_at_the_same_address(
    home: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "mediabus.embedded")
    async with up(home) as (url, dsn):
        await publish(url)
        await fetch(dsn, "CREATE TABLE kept AS SELECT 42 AS answer")
        before = servers_on(home)
        assert len(_killed(before)) == 2

        def others_run() -> bool:
            now = {process.pid for process in servers_on(home)}
            return len(now) == 2 and now.isdisjoint(process.pid for process in before)

        await eventually(others_run, within=30)
        await eventually(lambda: caplog.text.count("server restarted") == 2, within=30)
        assert await publish(url) == 2
        assert await fetch(dsn, "SELECT answer FROM kept") == 42
    assert caplog.text.count("server died, restarting") == 2


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a child of such a death")
async def test_they_end_with_a_process_that_was_killed(home: Path) -> None:
    with up_as_a_process(home / "data") as (process, _, _):
        assert len(servers_on(home / "data")) == 2
        process.kill()
        await eventually(lambda: not servers_on(home / "data"))


async def test_servers_of_a_killed_process_are_ended_and_their_data_used(
    home: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with up_as_a_process(home / "data", path="/nonexistent") as started:  # no setpriv
        process, url, dsn = started
        left = servers_on(home / "data")
        await publish(url)
        await fetch(dsn, "CREATE TABLE kept AS SELECT 42 AS answer")
        process.kill()
        process.wait()
        assert [is_alive(one) for one in left] == [True, True]
        async with up(home / "data") as (url_again, dsn_again):
            assert [is_alive(one) for one in left] == [False, False]
            assert await publish(url_again) == 2
            assert await fetch(dsn_again, "SELECT answer FROM kept") == 42
    assert caplog.text.count("stopping a server of an earlier run") == 2


async def test_a_data_directory_serves_one_at_a_time(home: Path) -> None:
    async with data_dir_lock(home):
        with pytest.raises(SettingsError, match=rf"in use by .* process {os.getpid()}\. Stop that"):
            async with data_dir_lock(home):
                pass
    async with data_dir_lock(home):
        pass


async def test_sigterm_ends_a_process_and_its_servers_quickly(home: Path) -> None:
    async with up(home) as (_, dsn):
        open_connection = await asyncpg.connect(dsn)  # does not keep PostgreSQL from leaving
        began = time.monotonic()
    assert time.monotonic() - began < 5
    assert servers_on(home) == []
    open_connection.terminate()


async def test_a_start_that_is_cancelled_leaves_no_process(home: Path) -> None:
    for seconds in (0.01, 0.05, 0.2, 0.6):
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds), up(home):
                await asyncio.Event().wait()
        assert servers_on(home) == []
    async with up(home):
        pass


async def test_a_directory_may_have_any_name(home: Path) -> None:
    async with up(home / "mein $HOME & 'dies'") as (url, dsn):
        assert await publish(url) == 1
        assert await fetch(dsn, "SELECT 1") == 1


@pytest.mark.parametrize("name", ["long".ljust(150, "x"), "a, b"])
async def test_a_socket_with_an_unusable_path_is_elsewhere(home: Path, name: str) -> None:
    (home / name).mkdir()
    async with embedded_postgres(home / name) as dsn:
        assert await fetch(dsn, "SELECT 1") == 1
        assert is_there(dsn.partition("host=")[2].partition("&")[0])
    assert not is_there(dsn.partition("host=")[2].partition("&")[0])


async def test_a_server_that_does_not_start_reports_the_reason(home: Path) -> None:
    async with embedded_postgres(home):
        pass
    (home / "postgres" / "postgresql.conf").write_text("port = none\n")
    with pytest.raises(ServerFailed, match=r"(?s)configuration file .*postgres\.log"):
        async with embedded_postgres(home):
            pass


@contextlib.contextmanager
def sleeper(user: int) -> Iterator[int]:
    """A process of the user that runs PostgreSQL; yields its number."""
    process = subprocess.Popen(["sleep", "60"], user=user if os.geteuid() == 0 else None)
    try:
        yield process.pid
    finally:
        process.kill()
        process.wait()


async def test_lock_files_with_a_reused_pid_do_not_block_a_start(
    home: Path,
) -> None:
    """As in a container, where each start gives the same numbers."""
    async with up(home) as (_, dsn):
        await fetch(dsn, "CREATE TABLE kept AS SELECT 42 AS answer")
        lines = (home / "postgres" / "postmaster.pid").read_text().splitlines()
    with sleeper((home / "postgres").stat().st_uid) as pid:
        for name in ("postmaster.pid", ".s.PGSQL.5432.lock"):
            (home / "postgres" / name).write_text("\n".join([str(pid), *lines[1:]]) + "\n")
            os.chown(home / "postgres" / name, (home / "postgres").stat().st_uid, -1)
        async with up(home) as (_, dsn):
            assert await fetch(dsn, "SELECT answer FROM kept") == 42


async def test_a_cluster_that_another_container_serves_is_left_alone(home: Path) -> None:
    """Its process cannot be seen from here, but its socket can."""
    async with up(home):
        pass
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(home / "postgres" / ".s.PGSQL.5432"))
        listener.listen()
        with pytest.raises(ServerFailed, match=r"already running on .*another container"):
            async with embedded_postgres(home):
                pass
        assert (home / "postgres" / ".s.PGSQL.5432").exists()


def empty(folder: Path) -> None:
    folder.mkdir()


def with_lost_and_found(folder: Path) -> None:
    (folder / "lost+found").mkdir(parents=True)


@pytest.mark.parametrize("make", [empty, with_lost_and_found])
async def test_an_existing_empty_folder_of_postgresql_is_used(
    home: Path, make: Callable[[Path], None]
) -> None:
    make(home / "postgres")
    async with embedded_postgres(home) as dsn:
        await fetch(dsn, "CREATE TABLE kept AS SELECT 42 AS answer")
    async with embedded_postgres(home) as dsn:
        assert await fetch(dsn, "SELECT answer FROM kept") == 42


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount")
async def test_a_mount_point_for_postgresql_is_filled(home: Path) -> None:
    reason = is_possible(home / "disk")
    if reason:
        pytest.skip(reason)
    with mounted(home / "postgres", 200):
        for _ in range(2):
            async with embedded_postgres(home) as dsn:
                assert await fetch(dsn, "SELECT 1") == 1


async def test_foreign_files_in_the_folder_of_postgresql_are_kept(
    home: Path,
) -> None:
    (home / "postgres").mkdir()
    (home / "postgres" / "base").mkdir()
    with pytest.raises(SettingsError, match=r"no PostgreSQL cluster .*restore it from a backup"):
        async with embedded_postgres(home):
            pass
    assert [path.name for path in (home / "postgres").iterdir()] == ["base"]


async def test_secrets_emptied_by_a_power_cut_are_created_again(home: Path) -> None:
    async with up(home) as (url, dsn):
        assert await publish(url) == 1
        await fetch(dsn, "CREATE TABLE kept AS SELECT 42 AS answer")
    for name in ("postgres.passwords", "nats/password", "nats/port", "postgres/pg_hba.conf"):
        (home / name).write_text("")
    async with up(home) as (url, dsn):
        assert await publish(url) == 2
        assert await fetch(dsn, "SELECT answer FROM kept") == 42
        nobody = NatsSettings(url=f"nats://{url.rpartition('@')[2]}")
        with pytest.raises(CannotConnect, match="Authorization Violation"):
            async with connect(nobody, name="nobody", wait=1):
                pass


@pytest.mark.parametrize("how", ["symlink", "hardlink", "folder", "pipe"])
async def test_a_lock_file_that_is_a_symlink_is_refused(home: Path, how: str) -> None:
    theirs, lock = home / "theirs", home / "mediabus.lock"
    theirs.write_text("kept")
    match how:
        case "symlink":
            lock.symlink_to(theirs)
        case "hardlink":
            lock.hardlink_to(theirs)
        case "folder":
            lock.mkdir()
        case _:
            os.mkfifo(lock)
    with pytest.raises(SettingsError, match=r"mediabus\.lock is not a regular file .* remove it"):
        async with data_dir_lock(home):
            pass
    assert theirs.read_text() == "kept"


@pytest.mark.parametrize("name", ["nats/port", "logs/nats-server.log"])
async def test_symlinks_in_the_data_directory_are_not_followed(home: Path, name: str) -> None:
    theirs = home / "theirs"
    theirs.write_text("kept")
    (home / name).parent.mkdir()
    (home / name).symlink_to(theirs)
    async with embedded_nats(home):
        pass
    assert theirs.read_text() == "kept"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount")
async def test_a_read_only_data_directory_is_called_that(home: Path) -> None:
    reason = is_possible(home / "disk")
    if reason:
        pytest.skip(reason)
    with mounted(home / "data", 1):
        await asyncio.to_thread(
            subprocess.run, ["mount", "-o", "remount,ro", str(home / "data")], check=True
        )
        with pytest.raises(SettingsError, match=r"data_dir: cannot write in .*: Read-only file"):
            async with data_dir_lock(home / "data"):
                pass


async def test_an_interrupted_creation_starts_again(home: Path) -> None:
    (home / "postgres.new").mkdir()
    (home / "postgres.new" / "PG_VERSION").write_text("18\n")
    async with embedded_postgres(home) as dsn:
        assert await fetch(dsn, "SELECT 1") == 1


async def test_without_the_wheels_the_error_has_advice(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "embedded_postgres", None)
    with pytest.raises(SettingsError, match=r"mediabus\[embedded\].*MEDIABUS_DATABASE_URL"):
        async with embedded_postgres(home):
            pass
    monkeypatch.setenv("PATH", "/nonexistent")
    with monkeypatch.context() as without_packages:
        without_packages.setattr(sys, "path", [])
        with pytest.raises(SettingsError, match=r"mediabus\[embedded\].*MEDIABUS_NATS_URL"):
            async with embedded_nats(home):
                pass


def python_for_nobody() -> str:
    """An interpreter that an ordinary user may run, with our packages; else the test is skipped."""
    for python in (sys.executable, "/usr/bin/python3"):
        command = [*AS_NOBODY, python, "-c", "import mediabus.runtime.embedded, psutil"]
        if not subprocess.run(command, check=False, cwd=ROOT, env=PLAIN).returncode:
            return python
    pytest.skip("no Python here that an ordinary user may run with our packages")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become someone else")
async def test_an_ordinary_user_needs_no_help(home: Path) -> None:
    python = python_for_nobody()
    data = home / "data"
    os.chown(home, NOBODY, NOBODY)
    with up_as_a_process(data, *AS_NOBODY, python) as (process, _, _):
        assert {one.uids().real for one in servers_on(data)} == {NOBODY}
        process.kill()
        await eventually(lambda: not servers_on(data))
    async with up(data) as (url, _):  # root afterwards: PostgreSQL runs as the owner
        assert await publish(url) == 1
        assert NOBODY in {one.uids().real for one in servers_on(data)}


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount")
async def test_nats_is_started_again_once_its_full_disk_has_room(
    home: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """By itself it would never store again: its write error stays."""
    reason = is_possible(home / "disk")
    if reason:
        pytest.skip(reason)
    monkeypatch.setattr(child, "CHECK_EVERY", 0.2)
    caplog.set_level(logging.INFO, "mediabus.embedded")
    with mounted(home / "data", 60) as disk:
        async with data_dir_lock(home / "data") as path, embedded_nats(path) as url:
            assert await publish(url) == 1
            [before] = servers_on(path)
            disk.fill()
            with pytest.raises(NatsError):
                await publish(url, b"x" * 100_000)
            await eventually(lambda: "nats-server is unhealthy" in caplog.text)
            assert is_alive(before)
            disk.free()
            await eventually(lambda: "server restarted" in caplog.text, within=20)
            assert await publish(url, b"x" * 100_000) == 2
