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
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import asyncpg
import nats
import psutil
import pytest

from service.runtime.bus import CannotConnect, connect
from service.runtime.embedded import (
    ServerFailed,
    data_dir_lock,
    embedded_nats,
    embedded_postgres,
)
from service.runtime.settings import NatsSettings, SettingsError
from tests.support.eventually import eventually

ROOT = Path(__file__).parents[2]

UP = """
import asyncio, sys
from pathlib import Path
from service.runtime.embedded import data_dir_lock, embedded_nats, embedded_postgres

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
    """A directory of the test's own. Not pytest's, whose folders each new run closes to others
    again: where root runs the tests, PostgreSQL is one of them."""
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


async def publish(url: str) -> int:
    """Stores one more message, and says how many there are."""
    nc = await nats.connect(url)
    try:
        js = nc.jetstream()
        await js.add_stream(name="KEPT", subjects=["kept"])
        return (await js.publish("kept", b"")).seq
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
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if any(folder in process.cmdline() for folder in folders):
                found.append(process)
    return found


def files_with(folder: Path, secrets: set[str]) -> list[Path]:
    """The files that hold one of the secrets."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    return [path for path in files if any(one.encode() in path.read_bytes() for one in secrets)]


NOBODY = 65534
AS_NOBODY = ("setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups")
PLAIN = {"PATH": os.defpath, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}


def is_alive(process: psutil.Process) -> bool:
    """Whether it runs; a dead one of a killed parent may wait for somebody to ask about it."""
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


async def test_what_they_got_is_there_at_the_next_start_which_is_quick(home: Path) -> None:
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


async def test_postgresql_is_durable_and_speaks_to_nobody_else(home: Path) -> None:
    async with up(home) as (_, dsn):
        assert await fetch(dsn, "SHOW fsync") == "on"
        assert await fetch(dsn, "SHOW synchronous_commit") == "on"
        assert await fetch(dsn, "SHOW listen_addresses") == ""
        assert await fetch(dsn, "SHOW unix_socket_permissions") == "0700"


async def test_nobody_gets_in_without_the_password(home: Path) -> None:
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


async def test_a_cluster_from_before_there_were_passwords_gets_one(home: Path) -> None:
    async with embedded_postgres(home) as dsn:
        await fetch(dsn, "CREATE TABLE kept AS SELECT 42 AS answer")
    rules = home / "postgres" / "pg_hba.conf"
    rules.write_text(rules.read_text().replace("scram-sha-256", "trust"))
    (home / "postgres.passwords").unlink()
    async with embedded_postgres(home) as dsn:
        assert await fetch(dsn, "SELECT answer FROM kept") == 42
        with pytest.raises(asyncpg.InvalidPasswordError):
            await fetch(f"postgresql://postgres@/postgres?host={dsn.partition('host=')[2]}", "")


async def test_nats_is_told_to_be_sparing_with_memory(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Unless whoever runs it says so."""
    monkeypatch.delenv("GOGC", raising=False)
    async with embedded_nats(home):
        [server] = servers_on(home)
        assert server.environ()["GOGC"] == "20"
    monkeypatch.setenv("GOGC", "100")
    async with embedded_nats(home):
        [server] = servers_on(home)
        assert server.environ()["GOGC"] == "100"


async def test_nats_gives_way_to_who_has_its_port_and_then_keeps_the_new_one(
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


async def test_a_port_that_was_asked_for_is_taken_or_refused(home: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        with pytest.raises(SettingsError, match=f"port {port} .* is taken"):
            async with embedded_nats(home, port):
                pass


async def test_a_server_that_is_killed_comes_back_at_the_same_place(
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
        await eventually(lambda: caplog.text.count("is back") == 2, within=30)
        assert await publish(url) == 2
        assert await fetch(dsn, "SELECT answer FROM kept") == 42
    assert caplog.text.count("died: starting it again") == 2


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a child of such a death")
async def test_they_end_with_a_process_that_was_killed(home: Path) -> None:
    with up_as_a_process(home / "data") as (process, _, _):
        assert len(servers_on(home / "data")) == 2
        process.kill()
        await eventually(lambda: not servers_on(home / "data"))


async def test_what_a_killed_process_left_running_is_ended_and_its_data_used(
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
    assert caplog.text.count("was left running: ending it") == 2


async def test_a_data_directory_serves_one_at_a_time(home: Path) -> None:
    async with data_dir_lock(home):
        with pytest.raises(SettingsError, match=f"in use by .* process {os.getpid()}: end that"):
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


async def test_whoever_is_cancelled_while_they_start_leaves_nothing(home: Path) -> None:
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
async def test_where_no_socket_can_be_it_is_elsewhere(home: Path, name: str) -> None:
    (home / name).mkdir()
    async with embedded_postgres(home / name) as dsn:
        assert await fetch(dsn, "SELECT 1") == 1
        assert is_there(dsn.partition("host=")[2])
    assert not is_there(dsn.partition("host=")[2])


async def test_a_server_that_does_not_start_says_why(home: Path) -> None:
    async with embedded_postgres(home):
        pass
    (home / "postgres" / "PG_VERSION").write_text("9.6\n")
    with pytest.raises(ServerFailed, match=r"(?s)incompatible.*postgres\.log"):
        async with embedded_postgres(home):
            pass


async def test_a_making_that_was_interrupted_begins_again(home: Path) -> None:
    (home / "postgres.new").mkdir()
    (home / "postgres.new" / "PG_VERSION").write_text("18\n")
    async with embedded_postgres(home) as dsn:
        assert await fetch(dsn, "SELECT 1") == 1


async def test_without_the_wheels_the_error_says_what_to_do(
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
        command = [*AS_NOBODY, python, "-c", "import service.runtime.embedded, psutil"]
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
