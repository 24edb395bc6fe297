"""Delete the files of a download on this machine, because aria2 does not.

aria2 reports the paths, and the settings name the folder in which mediabus may delete. A path is
accepted only if it is below that folder after all symbolic links are resolved. Each folder on the
way is then opened without following links, so that a change in between cannot redirect it.
"""

import contextlib
import dataclasses
import errno
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path, PurePath
from typing import Final

NOT_THERE: Final = {errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG}
"""Errors that mean that the file does not exist. ELOOP and ENOTDIR come from a symbolic link."""


class Elsewhere(Exception):
    """A path is outside the folder in which files may be deleted."""


@dataclasses.dataclass(frozen=True)
class Doomed:
    """The files to delete, and the folders to delete if they are empty then, deepest first.

    Paths are relative to ``root``, and had no symbolic links when they were checked.
    """

    root: Path
    files: Sequence[PurePath]
    folders: Sequence[PurePath]


def doomed(allowed: str, directory: str, paths: Iterable[str]) -> Doomed:
    """Return the files of a download in ``directory``, including the control files of aria2.

    Ignores relative paths, which are placeholders. Raises Elsewhere unless all files are below
    ``allowed``.
    """
    root = Path(allowed).resolve(strict=True)
    home = _inside(root, Path(directory))
    files: dict[PurePath, None] = {}
    folders: set[PurePath] = set()
    for path in map(Path, paths):
        if not path.is_absolute():
            continue
        file = _inside(root, path.parent) / path.name
        if not file.is_relative_to(home) or file == home or path.name in ("", ".", ".."):
            raise Elsewhere(f"{path} is not in the download's folder {directory}")
        top = home / file.relative_to(home).parts[0]
        files |= dict.fromkeys((file, top.with_name(f"{top.name}.aria2")))
        folders |= {it for it in file.parents if it.is_relative_to(home) and it != home}
    return Doomed(root, list(files), sorted(folders, key=lambda it: len(it.parts), reverse=True))


def _inside(root: Path, folder: Path) -> PurePath:
    """Return the folder relative to the root, with all links resolved."""
    real = folder.resolve()
    if not folder.is_absolute() or not real.is_relative_to(root):
        raise Elsewhere(f"{folder} is not below {root}")
    return real.relative_to(root)


def delete(doom: Doomed) -> None:
    """Delete the files, then the empty folders. Missing files are ignored. Raises OSError."""
    for file in doom.files:
        with _opened(doom.root, file.parent) as folder:
            if folder is not None:
                _unlink(file.name, folder)
    for path in doom.folders:
        with _opened(doom.root, path.parent) as folder, contextlib.suppress(OSError):
            if folder is not None:
                os.rmdir(path.name, dir_fd=folder)  # fails where it is not empty


def _unlink(name: str, folder: int) -> None:
    try:
        os.unlink(name, dir_fd=folder)
    except OSError as error:
        if error.errno not in NOT_THERE:
            raise


@contextlib.contextmanager
def _opened(root: Path, folder: PurePath) -> Iterator[int | None]:
    """Open a folder below the root. Yield its descriptor, or None if it does not exist."""
    descriptor = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
    try:
        for part in folder.parts:
            inner = os.open(part, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=descriptor)
            os.close(descriptor)
            descriptor = inner
    except OSError as error:
        os.close(descriptor)
        if error.errno not in NOT_THERE:
            raise
        yield None
        return
    try:
        yield descriptor
    finally:
        os.close(descriptor)
