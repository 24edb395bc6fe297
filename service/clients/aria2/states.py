"""Map downloads of aria2 to the status that all clients share.

The id of a torrent is its infohash, because its gid changes: aria2 downloads the metadata of a
magnet link as a separate download that another one follows, and after a restart the gid can be that
of a failed attempt to add the torrent again. The id of other downloads is their gid.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final

import msgspec
from yarl import URL

from mediabus.schemas.status import ClientName, DownloadStatus, FailureReason, ItemId, Phase
from mediabus.service.clients.failure_reasons import failure_reason, system_reason

STATUSES: Final[dict[str, Phase]] = {
    "active": Phase.DOWNLOADING,  # seeding, too
    "complete": Phase.COMPLETED,
    "error": Phase.FAILED,
    "paused": Phase.PAUSED,
    "waiting": Phase.QUEUED,
}
"""The phase of each status. ``phase_of`` handles the exceptions.

``removed`` is not listed, because a removed download is ignored.
"""

REASONS: Final[dict[int, FailureReason]] = {
    2: "no_sources",  # timeout
    3: "no_sources",  # not found
    4: "no_sources",  # not found too often
    5: "no_sources",  # too slow
    6: "no_sources",  # network
    7: "no_sources",  # aria2 stopped it unfinished: bt-stop-timeout
    8: "no_sources",  # the server cannot resume
    9: "disk_full",
    10: "rejected",  # the file of an earlier attempt has another piece length
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
    23: "no_sources",  # too many redirects
    24: "no_sources",  # HTTP authorisation
    25: "rejected",  # bencode
    26: "rejected",  # torrent
    27: "rejected",  # magnet link
    28: "rejected",  # an option
    29: "no_sources",  # a server that is overloaded
    30: "rejected",  # a request to its RPC
}
"""EXIT STATUS of aria2c(1). For others, such as 32 (checksum), the message decides."""

FILES: Final = frozenset(range(13, 19))
"""Codes of file errors. A known error of the system in the message, such as a full disk, wins."""

DUPLICATE: Final = 12


class SessionInfo(msgspec.Struct, frozen=True, rename="camel"):
    """The answer to getSessionInfo. The session id changes with each start of aria2."""

    session_id: str


class GlobalStat(msgspec.Struct, frozen=True, rename="camel"):
    """The number of downloads in each list. A change means that something happened."""

    num_active: int
    num_waiting: int
    num_stopped: int
    num_stopped_total: int = 0


class Version(msgspec.Struct, frozen=True):
    """The used part of the answer to getVersion."""

    version: str


class Info(msgspec.Struct, frozen=True):
    """The used part of the info dictionary of a torrent."""

    name: str


class BitTorrent(msgspec.Struct, frozen=True):
    """The torrent. Without metadata it has no ``info``."""

    info: Info | None = None


class Download(msgspec.Struct, frozen=True, rename="camel"):
    """The keys of tellStatus that mediabus requests."""

    gid: str
    status: str = ""
    total_length: int = 0
    completed_length: int = 0
    upload_length: int = 0
    download_speed: int = 0
    upload_speed: int = 0
    dir: str = ""
    error_code: int = 0
    error_message: str = ""
    followed_by: list[str] = []  # the download that this metadata led to
    info_hash: str = ""
    seeder: bool = False
    verified_length: int | None = None  # only during a check
    verify_integrity_pending: bool = False
    bittorrent: BitTorrent | None = None

    @property
    def item(self) -> ItemId:
        """The id of the download in mediabus."""
        return ItemId(self.info_hash.lower() or self.gid)

    @property
    def info(self) -> Info | None:
        """The info dictionary, once the metadata has arrived."""
        return self.bittorrent.info if self.bittorrent else None

    @property
    def is_one(self) -> bool:
        """Return whether this is a download for users.

        It is not if it is metadata that led to a download, a rejected duplicate, or removed.
        """
        is_twice = self.status == "error" and self.error_code == DUPLICATE
        return not (self.followed_by or is_twice or self.status == "removed")


KEYS: Final = [field.encode_name for field in msgspec.structs.fields(Download)]


class Uri(msgspec.Struct, frozen=True):
    """A source of a file."""

    uri: str


class File(msgspec.Struct, frozen=True):
    """A file of a download. Before its path is known, ``path`` is empty or a placeholder."""

    path: str
    uris: list[Uri] = []


def phase_of(download: Download) -> Phase:
    """Return the phase of a download. Metadata alone is never a completed download."""
    phase = STATUSES.get(download.status, Phase.UNKNOWN)
    if phase is Phase.FAILED:
        return phase
    if download.verified_length is not None or download.verify_integrity_pending:
        return Phase.CHECKING
    if download.info_hash and not download.info:
        return Phase.METADATA if phase in (Phase.DOWNLOADING, Phase.COMPLETED) else phase
    # Other downloads have a status for it, and until then may lead to further downloads.
    all_there = 0 < download.total_length == download.completed_length
    complete = download.info_hash and (download.seeder or all_there)
    return Phase.COMPLETED if complete and phase is not Phase.UNKNOWN else phase


def status_of(
    client: ClientName, download: Download, title: str, led: Sequence[ItemId] = ()
) -> DownloadStatus:
    """Convert a download to a status. ``led`` are the ids of downloads that led to it."""
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
        aliases=tuple(item for item in led if item != download.item),
    )


def _reason(download: Download) -> FailureReason:
    code, message = download.error_code, download.error_message
    by_system = system_reason(message) if code in FILES else None
    return by_system or REASONS.get(code) or failure_reason(message)


def name_of(files: Sequence[File]) -> str:
    """Return a name for a download that is not a torrent, or has no metadata."""
    path = files[0].path if files else ""
    path = re.sub(r"^(\[(METADATA|MEMORY)\])+", "", path)
    if not path and files and files[0].uris:
        path = _path_of(files[0].uris[0].uri)
    return path.rstrip("/").rpartition("/")[2]


def _path_of(url: str) -> str:
    """Return the path of a URL, or an empty string for an invalid URL."""
    try:
        return URL(url).path
    except ValueError:
        return ""


def newest(downloads: Iterable[Download]) -> dict[ItemId, Download]:
    """Return the downloads by id. If several have the same id, the last one counts."""
    return {download.item: download for download in downloads if download.is_one}


def led_to(downloads: Iterable[Download]) -> dict[str, tuple[ItemId, ...]]:
    """Return, by gid, the ids of the downloads that led to it, latest first.

    The URL of a torrent, a metalink and a magnet link each lead to further downloads. If one led to
    several, it continues as the first of them.
    """
    parents = {it.followed_by[0]: it for it in downloads if it.followed_by}
    return {gid: tuple(_ancestors(gid, parents)) for gid in parents}


def _ancestors(gid: str, parents: Mapping[str, Download]) -> Iterator[ItemId]:
    seen = {gid}
    while (parent := parents.get(gid)) and parent.gid not in seen:
        yield parent.item
        gid = parent.gid
        seen.add(gid)
