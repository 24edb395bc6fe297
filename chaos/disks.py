"""A disk for one server, small enough to fill."""

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path


class Disk:
    """A file system in memory, mounted at ``folder``."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._ballast = folder / "ballast"

    def fill(self) -> None:
        """Fill the disk completely."""
        with self._ballast.open("ab") as file:
            size, step = file.tell(), os.statvfs(self.folder).f_bavail * 4096
            while step >= 4096:
                try:
                    os.posix_fallocate(file.fileno(), size, step)
                    size += step
                except OSError:  # another process took the space
                    step //= 2

    def free(self) -> None:
        """Free the space that ``fill`` took."""
        self._ballast.unlink(missing_ok=True)


@contextlib.contextmanager
def mounted(folder: Path, megabytes: int) -> Iterator[Disk]:
    """Mount a disk in memory.

    Raises:
        OSError, CalledProcessError: this machine does not allow mounts.
    """
    folder.mkdir(exist_ok=True)
    mount = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m,mode=755", "chaos", str(folder)]
    subprocess.run(mount, check=True, capture_output=True)
    try:
        yield Disk(folder)
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True, capture_output=True)


def is_possible(folder: Path) -> str | None:
    """Return why this machine cannot mount a disk; None if it can."""
    try:
        with mounted(folder, 1):
            return None
    except subprocess.CalledProcessError as error:
        return f"cannot mount a file system: {error.stderr.decode().strip()}"
    except OSError as error:
        return f"cannot mount a file system: {error}"
