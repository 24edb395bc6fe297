"""The directory that holds everything, for one ``mediabus up`` at a time."""

import contextlib
import fcntl
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final

from service.runtime.settings import SettingsError

LOCK: Final = "mediabus.lock"


@contextlib.asynccontextmanager
async def data_dir_lock(data_dir: Path) -> AsyncIterator[Path]:
    """Makes the directory, holds it for this process and yields its absolute path. The lock goes
    with the process, however that ends. Raises SettingsError where another process holds it."""
    path = _made(data_dir)
    descriptor = os.open(path / LOCK, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        _take(descriptor, path)
        yield path
    finally:
        os.close(descriptor)


def _made(data_dir: Path) -> Path:
    path = data_dir.expanduser().resolve()
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise SettingsError(f"data_dir: cannot make {path}: {error.strerror}") from error
    if not os.access(path, os.W_OK | os.X_OK):
        raise SettingsError(f"data_dir: {path} belongs to someone else, who may not share it")
    return path


def _take(descriptor: int, path: Path) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        holder = os.read(descriptor, 32).decode(errors="replace").strip() or "unknown"
        raise SettingsError(
            f"data_dir: {path} is in use by another `mediabus up`, process {holder}: "
            "end that one first, or name another directory"
        ) from error
    os.ftruncate(descriptor, 0)
    os.write(descriptor, f"{os.getpid()}\n".encode())
