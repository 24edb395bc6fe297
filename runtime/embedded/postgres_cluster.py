"""A cluster of PostgreSQL: create it, protect it with a password, run a server on it."""

import contextlib
import dataclasses
import functools
import hashlib
import os
import re
import secrets
import shutil
import signal
import stat
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final
from urllib.parse import quote, urlencode

from mediabus.runtime.embedded.child import Program, kept_running, run
from mediabus.runtime.embedded.cluster import make_way
from mediabus.runtime.private_files import sync_folder, write_private
from mediabus.runtime.settings import SettingsError

PASSWORD_LINE: Final = re.compile(r"\*:\*:\*:postgres:\S+\n?")

ONE_RULE: Final = "local all all scram-sha-256\n"

MAX_SOCKET_DIR: Final = 107 - len("/.s.PGSQL.5432")
"""Maximum length of the directory of a Unix socket in bytes."""

INITIAL: Final = {
    "max_connections": "100",
    "max_wal_size": "512MB",
    "wal_compression": "on",
    "log_checkpoints": "off",
    "log_min_messages": "warning",
    "jit": "off",
    "timezone": "UTC",
}
"""Initial settings in postgresql.conf. The owner may change them there."""


PORT: Final = "5432"
EXPLICIT: Final = {
    "port": PORT,
    "sslmode": "disable",
    "sslnegotiation": "postgres",
    "target_session_attrs": "any",
    "gsslib": "gssapi",
}
"""Explicit parameters that override PGPORT, PGSSLMODE and other variables."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Cluster:
    """A cluster, the programs that serve it, and its password file.

    ``user`` is the user to run the server as, None for that of this process.
    """

    folder: Path
    programs: Path
    passwords: Path
    user: int | None
    log_name: str = "postgres.log"

    @property
    def logs(self) -> Path:
        """The folder of its logs."""
        return self.folder.parent / "logs"

    def program(self, name: str) -> str:
        """Return the path of a program of PostgreSQL."""
        return str(self.programs / name)


@contextlib.asynccontextmanager
async def serving(cluster: Cluster) -> AsyncIterator[str]:
    """Run a server on a cluster and yield its URL, which refers to the password file.

    Creates the cluster if it is missing. Raises SettingsError and ServerFailed.
    """
    sockets = _socket_dir(cluster.folder, cluster.user)
    await make_way(cluster.folder, sockets)
    if not cluster.folder.exists():
        await create(cluster)
        cluster.passwords.unlink(missing_ok=True)
    if not _is_whole(cluster.passwords):
        await _set_password(cluster)
    try:
        async with kept_running(_server(cluster, sockets)):
            places = {"passfile": str(cluster.passwords), "host": str(sockets), **EXPLICIT}
            yield f"postgresql://postgres@/postgres?{urlencode(places, safe='/', quote_via=quote)}"
    finally:
        if sockets != cluster.folder:
            shutil.rmtree(sockets, ignore_errors=True)


async def create(cluster: Cluster) -> None:
    """Create the cluster in a temporary folder and rename it, so that it is never half there.

    Until ``require_passwords``, its user needs no password.
    """
    half = _empty_dir(cluster.folder.with_name(f"{cluster.folder.name}.new"), cluster.user)
    settings = (f"--set={name}={value}" for name, value in INITIAL.items())
    initdb = Program(
        name="initdb",
        command=(
            *(cluster.program("initdb"), f"--pgdata={half}", "--username=postgres"),
            "--auth=trust",  # until the password is set, before the first start
            *("--encoding=UTF8", "--locale=C", "--locale-provider=builtin"),
            *("--builtin-locale=C.UTF-8", "--no-instructions"),
            *settings,
        ),
        log_file=cluster.logs / "initdb.log",
        user=cluster.user,
    )
    await run(initdb)
    half.rename(cluster.folder)
    sync_folder(cluster.folder.parent)


async def _set_password(cluster: Cluster) -> None:
    """Set a new password of the superuser and require passwords.

    For a new cluster, one of an old version without passwords, or one whose password file is lost.
    """
    password = secrets.token_hex(24)
    single = Program(
        name="postgres",
        command=(cluster.program("postgres"), "--single", "-D", str(cluster.folder), "postgres"),
        log_file=cluster.logs / "initdb.log",
        user=cluster.user,
        stdin=f"ALTER ROLE postgres PASSWORD '{password}'\n".encode(),
    )
    await run(single)
    require_passwords(cluster)
    write_private(cluster.passwords, f"*:*:*:postgres:{password}\n")


def _is_whole(passwords: Path) -> bool:
    """Return whether the file has a password. A power failure may have left it empty."""
    try:
        return PASSWORD_LINE.fullmatch(passwords.read_text(encoding="utf-8")) is not None
    except (FileNotFoundError, UnicodeDecodeError):
        return False


def require_passwords(cluster: Cluster) -> None:
    """Require a password from everyone. Restore the rule if a power failure emptied the file."""
    rules = cluster.folder / "pg_hba.conf"
    text = re.sub(r"\btrust$", "scram-sha-256", rules.read_text(), flags=re.MULTILINE)
    write_private(rules, text if text.strip() else ONE_RULE, like=rules.stat())


def _empty_dir(folder: Path, user: int | None) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(mode=0o700)
    if user is not None:
        os.chown(folder, user, -1, follow_symlinks=False)
    return folder


def _socket_dir(cluster: Path, user: int | None) -> Path:
    """Return the directory of the socket: that of the cluster, or else a temporary private one.

    The path of the cluster can be too long for a socket, or contain a comma, which PostgreSQL takes
    for a separator.
    """
    if len(os.fsencode(cluster)) <= MAX_SOCKET_DIR and "," not in str(cluster):
        return cluster
    digest = hashlib.sha256(os.fsencode(cluster)).hexdigest()[:16]
    folder = Path(tempfile.gettempdir()) / f"mediabus-{digest}"
    owner = os.geteuid() if user is None else user
    with contextlib.suppress(FileExistsError):
        folder.mkdir(mode=0o700)
        os.chown(folder, owner, -1, follow_symlinks=False)
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != owner:
        raise SettingsError(
            f"{folder}, for PostgreSQL's socket, belongs to another user: remove it"
        )
    return folder


def _server(cluster: Cluster, sockets: Path) -> Program:
    async def is_ready(pid: int) -> bool:
        with contextlib.suppress(OSError, IndexError):
            lines = _status_lines(cluster.folder)
            return lines[0] == str(pid) and lines[7] == "ready"
        return False

    return Program(
        name="postgres",
        prepare=functools.partial(make_way, cluster.folder, sockets),
        command=(
            *(cluster.program("postgres"), "-D", str(cluster.folder), "-k", str(sockets)),
            *("-h", "", "-p", PORT),
            *("-c", "unix_socket_permissions=0700"),
        ),
        log_file=cluster.logs / cluster.log_name,
        is_ready=is_ready,
        # A fast shutdown, then an immediate one, after which the next start recovers.
        stop_signals=((signal.SIGINT, 5.0), (signal.SIGQUIT, 2.0), (signal.SIGKILL, 2.0)),
        user=cluster.user,
    )


def _status_lines(cluster: Path) -> list[str]:
    """postmaster.pid: pid, directory, start, port, socket directory, host, memory, status."""
    text = (cluster / "postmaster.pid").read_text(errors="replace")
    return [line.strip() for line in text.splitlines()]
