"""The torrents of Transmission: the fields that are read, and the phase of each state."""

from typing import Final

import msgspec

from mediabus.schemas.status import ClientName, DownloadStatus, ItemId, Phase
from mediabus.service.clients.failure_reasons import failure_reason
from mediabus.service.clients.selection import NOTHING_WANTED

STOPPED: Final = 0

STATES: Final[dict[int, tuple[str, Phase]]] = {
    STOPPED: ("stopped", Phase.PAUSED),
    1: ("check queued", Phase.CHECKING),
    2: ("checking", Phase.CHECKING),
    3: ("download queued", Phase.QUEUED),
    4: ("downloading", Phase.DOWNLOADING),  # no byte for the first 10 s is normal
    5: ("seed queued", Phase.COMPLETED),
    6: ("seeding", Phase.COMPLETED),
}
"""tr_torrent_activity and the phase of each; ``phase_of`` has the exceptions."""

CHECKING: Final = (1, 2)

LOCAL_ERROR: Final = 3
"""``error``: 0 none, 1 and 2 a tracker's warning and error (the download continues), 3 a local
error such as a full disk."""


class Torrent(msgspec.Struct, frozen=True, rename="camel"):
    """The fields that torrent-get is asked for.

    A value of another type is read as the default. A torrent without an id or a hash makes the
    answer invalid.
    """

    id: int
    hash_string: str
    name: str = ""
    status: int = -1
    error: int = 0
    error_string: str = ""
    percent_done: float = 0.0
    metadata_percent_complete: float = 1.0
    size_when_done: int = 0
    left_until_done: int = 0
    uploaded_ever: int = 0
    rate_download: int = 0
    rate_upload: int = 0
    eta: int = -1
    download_dir: str = ""
    total_size: int = 0  # of all files, selected or not
    labels: list[str] = []


FIELDS: Final = msgspec.structs.fields(Torrent)
NAMES: Final = [field.encode_name for field in FIELDS]


def phase_of(torrent: Torrent) -> Phase:
    """Return the phase of the torrent. Without metadata, ``percentDone`` is 1 and is ignored."""
    _, phase = STATES.get(torrent.status, ("", Phase.UNKNOWN))
    if torrent.error == LOCAL_ERROR:
        return Phase.FAILED
    if torrent.metadata_percent_complete < 1:
        return Phase.METADATA if phase in (Phase.DOWNLOADING, Phase.COMPLETED) else phase
    if phase is Phase.PAUSED and torrent.percent_done >= 1:
        return Phase.COMPLETED
    return phase


def status_of(client: ClientName, torrent: Torrent) -> DownloadStatus:
    """Translate the torrent's record into the status that all clients share."""
    phase = phase_of(torrent)
    known = torrent.metadata_percent_complete >= 1
    word, _ = STATES.get(torrent.status, (str(torrent.status), phase))
    return DownloadStatus(
        client=client,
        item=ItemId(torrent.hash_string.lower()),
        title=torrent.name,
        phase=phase,
        progress=min(max(torrent.percent_done, 0.0), 1.0) if known else 0.0,
        size=torrent.size_when_done if known else None,
        downloaded=max(torrent.size_when_done - torrent.left_until_done, 0) if known else 0,
        uploaded=torrent.uploaded_ever,
        download_rate=torrent.rate_download,
        upload_rate=torrent.rate_upload,
        eta=torrent.eta if torrent.eta >= 0 else None,
        save_path=torrent.download_dir or None,
        category=next(iter(torrent.labels), None),
        reason=failure_reason(torrent.error_string) if phase is Phase.FAILED else None,
        message=torrent.error_string or None,
        warning=NOTHING_WANTED if _wants_nothing(torrent, phase) else None,
        client_state=word,
    )


def _wants_nothing(torrent: Torrent, phase: Phase) -> bool:
    return phase is Phase.COMPLETED and not torrent.size_when_done and torrent.total_size > 0
