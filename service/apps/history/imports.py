"""Count the files of an import, and find the files that each replaces. Pure."""

import datetime
from pathlib import PurePosixPath, PureWindowsPath
from typing import Final

from mediabus.service.apps.history.rows import Row
from mediabus.service.apps.history.state import Known, Release, Replaced
from mediabus.service.clients.tolerant import MAX_BIGINT

REPLACED_WITHIN: Final = datetime.timedelta(hours=1)
"""How long before an import the old file was deleted: applications do both in succession."""

MAX_REPLACED: Final = 10
"""Files that one file replaces."""


def keep_replaced(known: Known, row: Row) -> None:
    """Remember a file that was deleted to import a better one."""
    files = known.replaced.setdefault(row.piece, [])
    if row.piece and len(files) < MAX_REPLACED:
        files.append(Replaced(row.title, row.at))


def take_replaced(known: Known, row: Row) -> list[str]:
    """Return the paths of the files that an imported file replaces, and forget them."""
    files = known.replaced.pop(row.piece, [])
    return [file.path for file in files if row.at - file.deleted_at <= REPLACED_WITHIN]


def count_import(release: Release, row: Row, path: str, *, is_upgrade: bool) -> None:
    """Count a row of an import. A file with two episodes has two rows in succession."""
    if release.first_import_at is None:
        release.first_import_at = row.at
    release.last_import_at = max(row.at, release.last_import_at or row.at)
    release.imported_rows += 1
    if path != release.last_file:
        release.imported_files += 1
        size = release.imported_size + (row.size or 0)
        release.imported_size = min(size, MAX_BIGINT)
    release.last_file = path
    release.upgrade = release.upgrade or is_upgrade
    release.destination = _common_folder(release.destination, path)


def _common_folder(folder: str | None, path: str) -> str:
    """Return the deepest folder that holds both. Windows paths have backslashes."""
    kind = PureWindowsPath if "\\" in path and "/" not in path else PurePosixPath
    parents = [str(parent) for parent in kind(path).parents]
    if folder is None:
        return parents[0] if parents else path
    known = {folder, *(str(parent) for parent in kind(folder).parents)}
    return next((parent for parent in parents if parent in known), folder)
