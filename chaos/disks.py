"""A disk of a server's own, small enough to be filled."""

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
        """Leaves no byte free."""
        with self._ballast.open("ab") as file:
            size, step = file.tell(), os.statvfs(self.folder).f_bavail * 4096
            while step >= 4096:
                try:
                    os.posix_fallocate(file.fileno(), size, step)
                    size += step
                except OSError:  # somebody else was quicker
                    step //= 2

    def free(self) -> None:
        """Gives back what was taken."""
        self._ballast.unlink(missing_ok=True)


@contextlib.contextmanager
def mounted(folder: Path, megabytes: int) -> Iterator[Disk]:
    """Raises OSError or CalledProcessError where this machine does not let us mount."""
    folder.mkdir(exist_ok=True)
    mount = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m,mode=755", "chaos", str(folder)]
    subprocess.run(mount, check=True, capture_output=True)
    try:
        yield Disk(folder)
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True, capture_output=True)


def is_possible(folder: Path) -> str | None:
    """Why no disk can be made here, or None."""
    try:
        with mounted(folder, 1):
            return None
    except subprocess.CalledProcessError as error:
        return f"no file system can be mounted: {error.stderr.decode().strip()}"
    except OSError as error:
        return f"no file system can be mounted: {error}"
