"""A real PgBouncer before the PostgreSQL of the tests, as Debian packages it."""

import contextlib
import os
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

from tests.support.ports import free_port
from tests.support.servers import HOST, Server, require_program

CONFIG = """
[databases]
* = host={host} port={server_port} user=postgres
[pgbouncer]
listen_addr = {host}
listen_port = {port}
unix_socket_dir =
auth_type = any
pool_mode = {pool_mode}
max_client_conn = 100
default_pool_size = 20
logfile =
pidfile =
{extra}
"""


class PgBouncer(Server):
    """PgBouncer on a port of its own."""

    def __init__(self, directory: Path, database_url: str, pool_mode: str, extra: str) -> None:
        super().__init__(directory, free_port())
        place = urlsplit(database_url)
        self.url = f"postgresql://postgres@{HOST}:{self.port}{place.path}"
        self._config = directory / "pgbouncer.ini"
        self._config.write_text(
            CONFIG.format(
                host=HOST,
                server_port=place.port,
                port=self.port,
                pool_mode=pool_mode,
                extra=extra,
            )
        )

    def command(self) -> list[str]:
        return [_program(), "--quiet", str(self._config)]

    def user(self) -> str | None:
        """PgBouncer refuses to run as root."""
        return "embedded_postgres" if os.geteuid() == 0 else None

    def is_ready(self) -> bool:
        with contextlib.suppress(OSError), socket.create_connection((HOST, self.port), 1.0):
            return True
        return False


KEEPS_STATEMENTS = (1, 21)
"""The first version whose transaction mode can keep prepared statements."""


def loses_statements() -> str:
    """The setting that makes transaction mode lose prepared statements, as older versions do."""
    return "max_prepared_statements = 0" if version() >= KEEPS_STATEMENTS else ""


def version() -> tuple[int, ...]:
    """The version of the installed PgBouncer."""
    shown = subprocess.run([_program(), "--version"], capture_output=True, text=True, check=True)
    numbers = shown.stdout.split()[1].split(".")
    return tuple(map(int, numbers[:2]))


def _program() -> str:
    """Debian installs it where only root looks."""
    if named := os.environ.get("MEDIABUS_TEST_PGBOUNCER"):
        return named
    found = Path("/usr/sbin/pgbouncer")
    return str(found) if found.exists() else require_program("pgbouncer")


@contextlib.contextmanager
def pgbouncer(database_url: str, pool_mode: str, extra: str = "") -> Iterator[PgBouncer]:
    """A running PgBouncer; ended on leaving."""
    with tempfile.TemporaryDirectory(prefix="mediabus-pgbouncer-") as name:
        directory = Path(name)
        directory.chmod(0o755)
        server = PgBouncer(directory, database_url, pool_mode, extra)
        try:
            server.start()
            yield server
        finally:
            server.stop()
