"""The data directory of PostgreSQL: find it, and clean up after a killed server."""

import contextlib
import os
import shutil
import signal
import socket
from pathlib import Path
from typing import Final

from mediabus.runtime.embedded.child import ServerFailed
from mediabus.runtime.embedded.leftovers import end_leftovers
from mediabus.runtime.private_files import sync_folder
from mediabus.runtime.settings import SettingsError

FOLDER: Final = "postgres"
INSIDE: Final = "data"
"""Subfolder of the cluster if its folder is a mount point, which a rename cannot replace."""

UPGRADED: Final = "upgraded"
"""Suffix of a new cluster that is complete and about to replace one of an older version."""

DUMP: Final = "dump"
"""Suffix of the folder of a dump."""

MADE_BY_OTHERS: Final = {"lost+found", ".snapshot", ".zfs"}
"""Folders that file systems create at their root."""

CONNECT_TIMEOUT: Final = 2.0


def cluster_in(data_dir: Path) -> Path:
    """Return the folder of the cluster, which may not exist yet. Raises SettingsError.

    It is ``postgres``, or ``postgres/data`` if ``postgres`` exists already and is a mount point.
    """
    folder = data_dir / FOLDER
    for place in (folder, folder / INSIDE):
        _finish_upgrade(place)
    if not folder.is_dir() or _is_cluster(folder):
        return folder
    if _is_cluster(folder / INSIDE):
        return folder / INSIDE
    names = {entry.name for entry in folder.iterdir()} - MADE_BY_OTHERS
    if names - {INSIDE, f"{INSIDE}.new", "logs"}:
        raise SettingsError(
            f"data_dir: {folder} holds files but no PostgreSQL cluster (PG_VERSION is missing): "
            "restore it from a backup, or move it away to create a new one"
        )
    with contextlib.suppress(OSError):  # a mount point, or it has a lost+found
        folder.rmdir()
        return folder
    return folder / INSIDE


def _finish_upgrade(cluster: Path) -> None:
    """Give a complete new cluster its name if the upgrade was killed before its last rename."""
    ready = cluster.with_name(f"{cluster.name}.{UPGRADED}")
    if ready.is_dir() and not cluster.exists():
        ready.rename(cluster)
        sync_folder(cluster.parent)
        shutil.rmtree(cluster.with_name(f"{cluster.name}.{DUMP}"), ignore_errors=True)


def _is_cluster(folder: Path) -> bool:
    """Return whether a folder is a cluster. A folder that is not readable counts as one."""
    try:
        return (folder / "PG_VERSION").exists()
    except PermissionError:
        return True


async def make_way(cluster: Path, sockets: Path) -> None:
    """End servers that a killed run left on the cluster, and remove their lock files.

    The caller holds the lock of the data directory, so no other ``mediabus up`` uses it. PostgreSQL
    only checks whether the pid in its lock file exists. Containers reuse pids, so it would never
    start. Raises ServerFailed if another server answers.
    """
    await end_leftovers("postgres", cluster, signal.SIGINT)
    _remove_locks(cluster, sockets)


def _remove_locks(cluster: Path, sockets: Path) -> None:
    found = list(sockets.glob(".s.PGSQL.*"))
    for path in found:
        if _answers(path):
            raise ServerFailed(
                f"PostgreSQL is already running on {cluster}: a server answers at {path}, perhaps "
                "in another container. Stop that server first"
            )
    for path in (*found, cluster / "postmaster.pid"):
        path.unlink(missing_ok=True)


def _answers(path: Path) -> bool:
    """Return whether a server, perhaps in another container, accepts connections at a socket."""
    if not path.is_socket() or len(os.fsencode(path)) > 107:
        return False
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(CONNECT_TIMEOUT)
        try:
            probe.connect(str(path))
        except TimeoutError:
            return True  # its queue is full
        except OSError:
            return False
    return True
