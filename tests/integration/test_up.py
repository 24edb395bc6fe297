"""`mediabus up` and the processes as an operator meets them: at their start, and on leaving."""

import asyncio
import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from mediabus.runtime.embedded.postgres_programs import major_of
from mediabus.runtime.embedded.postgres_server import installed_postgres
from mediabus.runtime.postgres.database import open_pool
from mediabus.runtime.postgres.schema import migrate
from mediabus.runtime.settings import DatabaseSettings, NatsSettings, Settings
from tests.support import commands
from tests.support.eventually import eventually
from tests.support.ports import free_port
from tests.support.processes import RUN, Name, processes
from tests.support.servers import NatsServer, postgres_server

NOBODY = 65534
IN_A_CONTAINER = ("unshare", "--pid", "--fork", "--kill-child")
SIGTERM_BIT = 1 << (signal.SIGTERM - 1)


@pytest.fixture
def home() -> Iterator[Path]:
    """A directory that PostgreSQL, as another user, may reach."""
    with tempfile.TemporaryDirectory(prefix="mediabus-up-") as folder:
        yield Path(folder).resolve()


async def up(home: Path) -> commands.Outcome:
    return await commands.mediabus("--data-dir", str(home), "up", MEDIABUS_HTTP_PORT="0")


async def test_a_server_that_does_not_start_is_shown_with_its_log(home: Path) -> None:
    cluster = home / "postgres"
    cluster.mkdir(mode=0o700)
    (cluster / "PG_VERSION").write_text(f"{major_of(installed_postgres(), None)}\n")
    (cluster / "postgresql.conf").write_text("port = none\n")
    for path in (cluster, *cluster.iterdir()):
        os.chown(path, NOBODY if os.geteuid() == 0 else -1, -1)
    (home / "postgres.passwords").write_text("*:*:*:postgres:secret\n")
    outcome = await up(home)
    assert outcome.code == 1
    assert "Traceback" not in outcome.err
    assert re.search(
        r"(?s)postgres ended with \d\. End of its log:\nmediabus:  .*FATAL", outcome.err
    )
    assert "logs/postgres.log" in outcome.err


async def test_a_data_directory_that_is_a_file_is_named(home: Path) -> None:
    (home / "data").write_text("")
    outcome = await up(home / "data")
    assert outcome.code == 2
    assert "Traceback" not in outcome.err
    assert f"data_dir: cannot create {home / 'data'}" in outcome.err


def handles_sigterm(pid: int) -> bool:
    """Whether a process does something of its own on SIGTERM."""
    caught = re.search(r"^SigCgt:\s*(\w+)", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    return bool(caught and int(caught[1], 16) & SIGTERM_BIT)


def has_begun(pid: int) -> bool:
    """Whether a process is past its imports."""
    return "uvloop" in Path(f"/proc/{pid}/maps").read_text()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make a pid namespace")
@pytest.mark.parametrize("command", ["up", "service", "monitor", "persist"])
async def test_process_1_of_a_container_stops_on_sigterm_at_start(home: Path, command: str) -> None:
    process = subprocess.Popen(  # noqa: ASYNC220 - it only forks
        [*IN_A_CONTAINER, sys.executable, "-c", RUN, "--data-dir", str(home), command],
        env={**commands.environment(), "MEDIABUS_HTTP_PORT": "0"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    with process:
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
        init = int(await eventually(children.read_text, every=0.001))
        await eventually(lambda: handles_sigterm(init), every=0.001)
        assert not has_begun(init)
        os.kill(init, signal.SIGTERM)
        said, _ = await asyncio.to_thread(process.communicate, timeout=15)
    assert process.returncode == 0, said
    assert b"Traceback" not in said


@pytest.mark.parametrize("command", ["service", "monitor", "persist"])
async def test_processes_exit_with_0_while_they_wait_for_servers(home: Path, command: str) -> None:
    process = await commands.start(
        command,
        MEDIABUS_HTTP_PORT="0",
        MEDIABUS_NATS_URL=f"nats://127.0.0.1:{free_port()}",
        MEDIABUS_DATABASE_URL=f"postgresql://postgres@127.0.0.1:{free_port()}/none",
        MEDIABUS_DATA_DIR=str(home),
    )
    assert process.stderr
    assert process.stdout
    async with asyncio.timeout(30):
        while b"waiting for" not in (await process.stderr.readline()):
            assert process.returncode is None
    process.terminate()
    _, err = await asyncio.wait_for(process.communicate(), 15)
    assert (process.returncode, b"Traceback" in err) == (0, False)


@pytest.mark.parametrize("name", ["service", "monitor", "persist"])
@pytest.mark.parametrize("nats_too", [False, True])
async def test_processes_exit_with_0_while_postgresql_is_unreachable(
    home: Path, nats: NatsServer, name: Name, nats_too: bool
) -> None:
    with postgres_server(home / "server") as server:
        url = server.url_of("postgres")
        async with open_pool(DatabaseSettings(url=url)) as pool:
            await migrate(pool)
        settings = Settings(nats=NatsSettings(url=nats.url), database=DatabaseSettings(url=url))
        with processes(settings, home, name) as [process]:
            server.kill()
            if nats_too:
                nats.kill()
                await eventually(lambda: process.says("NATS connection lost, reconnecting"))
            assert await asyncio.to_thread(process.stop) == 0
            assert "Traceback" not in process.log.read_text()
            assert not process.says("an exit step failed")
