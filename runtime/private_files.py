"""Write files that only their owner can read, for passwords and keys."""

import os
from pathlib import Path
from typing import IO


def write_private(path: Path, text: str, *, like: os.stat_result | None = None) -> None:
    """Write a file atomically and durably, readable by its owner only.

    ``like`` gives the file another owner and mode. A symlink at ``path`` is replaced, not followed.
    """
    half = path.with_name(f"{path.name}.new")
    half.unlink(missing_ok=True)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
    with os.fdopen(os.open(half, flags, 0o600), "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        if like is not None:
            os.fchown(file.fileno(), like.st_uid, like.st_gid)
            os.fchmod(file.fileno(), like.st_mode & 0o7777)
        os.fsync(file.fileno())
    half.replace(path)
    sync_folder(path.parent)


def create_private(path: Path) -> IO[bytes]:
    """Create a binary file, readable by its owner only. Replaces an existing file."""
    path.unlink(missing_ok=True)
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb")


def sync_folder(folder: Path) -> None:
    """Sync a folder to disk. Otherwise a power failure may undo a rename in it."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
