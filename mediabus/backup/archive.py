"""The backup file: a ZIP archive whose manifest is written last."""

import contextlib
import datetime
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Final

import msgspec

from mediabus.runtime.private_files import create_private

FORMAT: Final = 1
MANIFEST: Final = "manifest.json"


class BackupError(Exception):
    """A backup cannot be created or restored. The message gives the reason and what to do."""


class StreamBackup(msgspec.Struct, frozen=True):
    """A NATS stream: its configuration and state, in the format of JetStream."""

    name: str
    config: msgspec.Raw
    state: msgspec.Raw


class TableBackup(msgspec.Struct, frozen=True):
    """A table or a partition: the table that its rows go to, and its columns in order."""

    name: str
    target: str
    columns: list[str]
    rows: int


class DatabaseBackup(msgspec.Struct, frozen=True):
    """A database: its schema version, its tables, the months of ``events`` and its sequences."""

    schema: int
    tables: list[TableBackup]
    months: list[datetime.datetime]
    sequences: dict[str, int]


class Manifest(msgspec.Struct, frozen=True):
    """The contents of a backup. ``started`` is the time of PostgreSQL before the first copy."""

    format: int
    version: str
    started: datetime.datetime
    streams: list[StreamBackup]
    databases: dict[str, DatabaseBackup]


class Archive:
    """An open archive. Its members are read and written in parts."""

    def __init__(self, file: zipfile.ZipFile) -> None:
        self._file = file

    @contextlib.contextmanager
    def writing(self, name: str) -> Iterator[IO[bytes]]:
        """Open a member for writing. It may grow beyond 2 GiB."""
        with self._file.open(name, "w", force_zip64=True) as member:
            yield member

    @contextlib.contextmanager
    def reading(self, name: str) -> Iterator[IO[bytes]]:
        """Open a member for reading. Raises BackupError if it is missing or damaged."""
        try:
            with self._file.open(name) as member:
                yield member
        except (KeyError, zipfile.BadZipFile) as error:
            raise BackupError(f"{self._file.filename} is damaged: {error}") from error

    def size_of(self, name: str) -> int | None:
        """Return the uncompressed size of a member in bytes; None if it is missing."""
        try:
            return self._file.getinfo(name).file_size
        except KeyError:
            return None

    def write_manifest(self, manifest: Manifest) -> None:
        """Finish the backup: an archive without a manifest is not a backup."""
        self._file.writestr(MANIFEST, msgspec.json.encode(manifest))

    def manifest(self) -> Manifest:
        """Read the manifest. Raises BackupError if this version cannot read it."""
        try:
            manifest = msgspec.json.decode(self._file.read(MANIFEST), type=Manifest)
        except (KeyError, msgspec.DecodeError, zipfile.BadZipFile) as error:
            raise BackupError(f"{self._file.filename} is not a mediabus backup") from error
        if manifest.format != FORMAT:
            raise BackupError(
                f"{self._file.filename} was made by mediabus {manifest.version}: "
                "restore it with that version"
            )
        return manifest


@contextlib.contextmanager
def created(path: Path) -> Iterator[Archive]:
    """Create an archive that only its owner may read. It gets its name once it is complete.

    Raises:
        BackupError: The file exists.
        OSError: It cannot be written, for example because the disk is full.
    """
    if path.exists():
        raise BackupError(f"{path} exists: choose another name, or move the file")
    partial = path.with_name(f"{path.name}.part")
    try:
        with (
            create_private(partial) as file,
            zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=3) as archive,
        ):
            yield Archive(archive)
        partial.rename(path)
    finally:
        partial.unlink(missing_ok=True)


@contextlib.contextmanager
def opened(path: Path) -> Iterator[Archive]:
    """Open an archive to restore. Raises BackupError if it is incomplete or not a backup."""
    try:
        archive = zipfile.ZipFile(path)
    except FileNotFoundError as error:
        raise BackupError(f"{path} does not exist") from error
    except zipfile.BadZipFile as error:
        raise BackupError(f"{path} is not a mediabus backup, or is incomplete") from error
    with archive:
        yield Archive(archive)
