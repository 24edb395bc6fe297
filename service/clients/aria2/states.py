"""What aria2 says of itself, and of its downloads in the vocabulary of all clients.

A download is known here by its infohash, because its gid changes: a magnet link's metadata is a
download of its own, which another one follows, and a restart may keep the gid of a failed try to
add the same again. What is no torrent has its gid for an id.
"""

import contextlib
import errno
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

import msgspec
from yarl import URL

from schemas.status import ClientName, DownloadStatus, FailureReason, ItemId, Phase
from service.clients.reasons import failure_reason

STATUSES: Final[dict[str, Phase]] = {
    "active": Phase.DOWNLOADING,  # seeding, too
    "complete": Phase.COMPLETED,
    "error": Phase.FAILED,
    "paused": Phase.PAUSED,
    "waiting": Phase.QUEUED,
}
"""Each status and what it means by itself; ``phase_of`` knows what overrules it. ``removed`` is
not among them: what was removed is no download any more."""

REASONS: Final[dict[int, FailureReason]] = {
    2: "no_sources",  # timeout
    3: "no_sources",  # not found
    4: "no_sources",  # not found too often
    5: "no_sources",  # too slow
    6: "no_sources",  # network
    9: "disk_full",
    11: "rejected",  # the same file is being downloaded
    12: "rejected",  # the same infohash is being downloaded
    13: "not_writable",  # there is such a file already
    14: "not_writable",  # renaming
    15: "not_writable",  # opening a file
    16: "not_writable",  # creating a file
    18: "not_writable",  # creating a directory
    19: "no_sources",  # name resolution
    20: "rejected",  # metalink
    21: "no_sources",  # FTP
    22: "no_sources",  # HTTP
    23: "no_sources",  # redirects without end
    24: "no_sources",  # HTTP authorisation
    25: "rejected",  # bencode
    26: "rejected",  # torrent
    27: "rejected",  # magnet link
    29: "no_sources",  # a server that is overloaded
}
"""EXIT STATUS of aria2c(1); the rest is told from the words."""

DUPLICATE: Final = 12


class SessionInfo(msgspec.Struct, frozen=True, rename="camel"):
    """The answer to getSessionInfo: another one for each run."""

    session_id: str


class GlobalStat(msgspec.Struct, frozen=True, rename="camel"):
    """How many downloads there are of each sort: a hint that something changed."""

    num_active: int
    num_waiting: int
    num_stopped: int
    num_stopped_total: int = 0


class Version(msgspec.Struct, frozen=True):
    """Of getVersion, what matters here."""

    version: str


class Info(msgspec.Struct, frozen=True):
    """Of a torrent's info dictionary, what matters here."""

    name: str


class BitTorrent(msgspec.Struct, frozen=True):
    """What is known of the torrent; no ``info`` without metadata."""

    info: Info | None = None


class Download(msgspec.Struct, frozen=True, rename="camel"):
    """The keys of tellStatus that are asked for: these and no more."""

    gid: str
    status: str
    total_length: int = 0
    completed_length: int = 0
    upload_length: int = 0
    download_speed: int = 0
    upload_speed: int = 0
    dir: str = ""
    error_code: int = 0
    error_message: str = ""
    followed_by: list[str] = []  # by the download of what this one's metadata describe
    info_hash: str = ""
    seeder: bool = False
    verified_length: int | None = None  # only while it is checked
    verify_integrity_pending: bool = False
    bittorrent: BitTorrent | None = None

    @property
    def item(self) -> ItemId:
        """The id by which mediabus knows it."""
        return ItemId(self.info_hash.lower() or self.gid)

    @property
    def info(self) -> Info | None:
        """The torrent's own word, once there is metadata."""
        return self.bittorrent.info if self.bittorrent else None

    @property
    def is_one(self) -> bool:
        """Whether it is what somebody wants to have: not the metadata that led to it, a try to add
        it twice, or what is left of a removed one."""
        is_twice = self.status == "error" and self.error_code == DUPLICATE
        return not (self.followed_by or is_twice or self.status == "removed")


KEYS: Final = [field.encode_name for field in msgspec.structs.fields(Download)]


class Uri(msgspec.Struct, frozen=True):
    """Where a file comes from."""

    uri: str


class File(msgspec.Struct, frozen=True):
    """A file of a download; ``path`` is empty, or no path at all, before it is known."""

    path: str
    uris: list[Uri] = []


def phase_of(download: Download) -> Phase:
    """What the download does. Metadata alone are never a completed download."""
    phase = STATUSES.get(download.status, Phase.UNKNOWN)
    if phase is Phase.FAILED:
        return phase
    if download.verified_length is not None or download.verify_integrity_pending:
        return Phase.CHECKING
    if download.info_hash and not download.info:
        return Phase.METADATA if phase in (Phase.DOWNLOADING, Phase.COMPLETED) else phase
    complete = download.seeder or 0 < download.total_length == download.completed_length
    return Phase.COMPLETED if complete and phase is not Phase.UNKNOWN else phase


def status_of(client: ClientName, download: Download, title: str) -> DownloadStatus:
    """The download in the vocabulary of all clients."""
    phase = phase_of(download)
    known = not download.info_hash or download.info is not None
    size = download.total_length if known else 0
    downloaded = min(download.completed_length, size)
    speed = download.download_speed
    failed = phase is Phase.FAILED
    return DownloadStatus(
        client=client,
        item=download.item,
        title=title,
        phase=phase,
        progress=1.0 if phase is Phase.COMPLETED else downloaded / size if size else 0.0,
        size=size or None,
        downloaded=downloaded,
        uploaded=download.upload_length,
        download_rate=speed,
        upload_rate=download.upload_speed,
        eta=(size - downloaded) // speed if speed and downloaded < size else None,
        save_path=download.dir or None,
        reason=_reason(download) if failed else None,
        message=(download.error_message or f"aria2 error {download.error_code}")
        if failed
        else None,
        client_state=download.status,
    )


def _reason(download: Download) -> FailureReason:
    return REASONS.get(download.error_code) or failure_reason(download.error_message)


def name_of(files: Sequence[File]) -> str:
    """What to call a download that is no torrent, or one without metadata."""
    path = files[0].path if files else ""
    path = re.sub(r"^(\[(METADATA|MEMORY)\])+", "", path)
    if not path and files and files[0].uris:
        path = URL(files[0].uris[0].uri).path
    return path.rstrip("/").rpartition("/")[2]


def newest(downloads: Iterable[Download]) -> dict[ItemId, Download]:
    """The downloads by their ids: where several have the same, the last one counts."""
    return {download.item: download for download in downloads if download.is_one}


def delete(directory: Path, paths: Iterable[Path]) -> None:
    """Delete a download's files below its directory, aria2's own file beside them and the
    directories that are empty then. What is elsewhere or gone is left alone, and what has a name
    too long for it to be there."""
    root = directory.resolve()
    for path in paths:
        if not path.is_absolute() or not path.parent.resolve().is_relative_to(root):
            continue
        inside = path.parent.resolve() / path.name
        top = root / inside.relative_to(root).parts[0]
        for file in (inside, top.with_name(f"{top.name}.aria2")):
            try:
                file.unlink(missing_ok=True)
            except OSError as error:
                if error.errno != errno.ENAMETOOLONG:
                    raise
        for parent in inside.parents:
            if parent == root:
                break
            with contextlib.suppress(OSError):  # not empty, or gone
                parent.rmdir()
