"""Create and lock the data directory, which one ``mediabus up`` can use at a time."""

import contextlib
import errno
import fcntl
import os
import stat
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final

from mediabus.runtime.settings import SettingsError
from mediabus.runtime.text_files import expanded

LOCK: Final = "mediabus.lock"


@contextlib.asynccontextmanager
async def data_dir_lock(data_dir: Path) -> AsyncIterator[Path]:
    """Create the directory, lock it while open and yield its absolute path.

    The lock ends with the process, even if it is killed. Raises SettingsError if the directory
    cannot be used or another process has the lock.
    """
    path = _made(data_dir)
    descriptor = _opened(path / LOCK)
    try:
        _take(descriptor, path)
        yield path
    finally:
        os.close(descriptor)


def _made(data_dir: Path) -> Path:
    path = Path(expanded(str(data_dir))).resolve()
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise SettingsError(f"data_dir: cannot create {path}: {error.strerror}") from error
    return path


def _opened(lock: Path) -> int:
    """Open the lock file. Refuse symlinks and hard links.

    Root may run ``up`` in another user's directory and must not write to a file elsewhere.
    """
    try:
        descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        raise SettingsError(_cannot_open(lock, error)) from error
    found = os.fstat(descriptor)
    if not stat.S_ISREG(found.st_mode) or found.st_nlink > 1:
        os.close(descriptor)
        raise SettingsError(_no_lock_file(lock))
    return descriptor


def _cannot_open(lock: Path, error: OSError) -> str:
    if error.errno in {errno.ELOOP, errno.EISDIR, errno.ENXIO}:
        return _no_lock_file(lock)
    if error.errno == errno.EACCES:
        owner = lock.parent.stat().st_uid
        return (
            f"data_dir: cannot write in {lock.parent}: permission denied (it belongs to user "
            f"{owner}). Run mediabus as that user, or set another directory"
        )
    return (
        f"data_dir: cannot write in {lock.parent}: {error.strerror}. "
        "Make it writable, or set another directory"
    )


def _no_lock_file(lock: Path) -> str:
    return (
        f"data_dir: {lock} is not a regular file with a single link, so mediabus did not create "
        "it: remove it"
    )


def _take(descriptor: int, path: Path) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        holder = os.read(descriptor, 32).decode(errors="replace").strip() or "unknown"
        raise SettingsError(
            f"data_dir: {path} is in use by another `mediabus up`, process {holder}. "
            "Stop that one first, or set another directory"
        ) from error
    try:
        os.ftruncate(descriptor, 0)
        os.write(descriptor, f"{os.getpid()}\n".encode())
    except OSError as error:
        raise SettingsError(f"data_dir: cannot write in {path}: {error.strerror}") from error
