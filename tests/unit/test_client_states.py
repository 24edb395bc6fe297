"""Every word of the download clients' own, and what we take it for."""

import errno
import os

import pytest

from mediabus.schemas.status import ClientName, FailureReason, Phase
from mediabus.service.clients import os_errors
from mediabus.service.clients.failure_reasons import failure_reason
from mediabus.service.clients.qbittorrent import states as qbittorrent
from mediabus.service.clients.transmission import states as transmission
from mediabus.service.clients.transmission.rpc import rpc_url

CLIENT = ClientName("attic")
HASH = "AB" * 20

QBITTORRENT = {
    "allocating": Phase.CHECKING,
    "checkingDL": Phase.CHECKING,
    "checkingResumeData": Phase.CHECKING,
    "checkingUP": Phase.CHECKING,
    "downloading": Phase.DOWNLOADING,
    "error": Phase.FAILED,
    "forcedDL": Phase.DOWNLOADING,
    "forcedMetaDL": Phase.METADATA,
    "forcedUP": Phase.COMPLETED,
    "metaDL": Phase.METADATA,
    "missingFiles": Phase.FAILED,
    "moving": Phase.MOVING,
    "pausedDL": Phase.PAUSED,
    "pausedUP": Phase.COMPLETED,
    "queuedDL": Phase.QUEUED,
    "queuedUP": Phase.COMPLETED,
    "stalledDL": Phase.DOWNLOADING,
    "stalledUP": Phase.COMPLETED,
    "stoppedDL": Phase.PAUSED,
    "stoppedUP": Phase.COMPLETED,
    "unknown": Phase.UNKNOWN,
    "uploading": Phase.COMPLETED,
    "a word of next year": Phase.UNKNOWN,
    "": Phase.UNKNOWN,
}


@pytest.mark.parametrize(("word", "phase"), QBITTORRENT.items())
def test_a_qbittorrent_state_means(word: str, phase: Phase) -> None:
    status = qbittorrent.status_of(CLIENT, HASH, qbittorrent.Torrent(name="a", state=word))

    assert (status.phase, status.client_state) == (phase, word)
    assert (status.reason is not None) is (phase is Phase.FAILED)


def test_every_qbittorrent_state_of_the_table_is_tried_here() -> None:
    assert qbittorrent.STATES.keys() <= QBITTORRENT.keys()


def test_an_unknown_state_of_qbittorrent_is_unknown() -> None:
    bare = qbittorrent.Torrent(name="a", state="metaDL", size=-1, completed=-1, progress=-0.5)

    status = qbittorrent.status_of(CLIENT, HASH, bare)

    assert (status.item, status.progress, status.downloaded) == ("ab" * 20, 0.0, 0)
    assert (status.size, status.eta, status.save_path, status.category) == (None, None, None, None)


def test_qbittorrent_numbers_are_passed_on() -> None:
    torrent = qbittorrent.Torrent(
        name="Dune",
        state="downloading",
        progress=0.5,
        size=100,
        completed=50,
        uploaded=7,
        dlspeed=9,
        upspeed=3,
        eta=6,
        save_path="/films",
        category="films",
    )

    status = qbittorrent.status_of(CLIENT, HASH, torrent)

    assert (status.progress, status.size, status.downloaded, status.uploaded) == (0.5, 100, 50, 7)
    assert (status.download_rate, status.upload_rate, status.eta) == (9, 3, 6)
    assert (status.title, status.save_path, status.category) == ("Dune", "/films", "films")


@pytest.mark.parametrize(
    ("state", "why", "reason"),
    [
        ("missingFiles", "", "missing_files"),
        ("error", 'File error alert. Reason: "No space left on device"', "disk_full"),
        ("error", "file_open (/films) error: Permission denied", "not_writable"),
        ("error", "", "client_error"),
    ],
)
def test_a_qbittorrent_failure_has_a_reason_and_a_message(
    state: str, why: str, reason: FailureReason
) -> None:
    torrent = qbittorrent.Torrent(name="a", state=state)

    status = qbittorrent.status_of(CLIENT, HASH, torrent, why)

    assert status.reason == reason
    assert status.message is not None
    assert why in status.message


def transmission_torrent(
    *,
    status: int = 4,
    done: float = 0.5,
    metadata: float = 1.0,
    error: int = 0,
    words: str = "",
    eta: int = -1,
    number: int = 1,
) -> transmission.Torrent:
    return transmission.Torrent(
        id=number,
        hash_string=HASH,
        name="a",
        status=status,
        error=error,
        error_string=words,
        percent_done=done,
        metadata_percent_complete=metadata,
        size_when_done=100,
        left_until_done=100 - int(done * 100),
        uploaded_ever=0,
        rate_download=0,
        rate_upload=0,
        eta=eta,
        download_dir="/films",
    )


@pytest.mark.parametrize(
    ("status", "done", "metadata", "phase"),
    [
        (0, 0.5, 1, Phase.PAUSED),
        (0, 0.0, 0.3, Phase.PAUSED),
        (0, 1.0, 0.0, Phase.PAUSED),  # percentDone ignores that the metadata is not there
        (0, 1.0, 1, Phase.COMPLETED),  # stopped, or its seed ratio is reached
        (1, 0.5, 1, Phase.CHECKING),
        (1, 1.0, 1, Phase.CHECKING),
        (2, 0.5, 1, Phase.CHECKING),
        (2, 1.0, 1, Phase.CHECKING),
        (3, 0.5, 1, Phase.QUEUED),
        (3, 0.0, 0.3, Phase.QUEUED),
        (4, 0.5, 1, Phase.DOWNLOADING),
        (4, 0.0, 0.3, Phase.METADATA),
        (4, 1.0, 0.3, Phase.METADATA),
        (5, 1.0, 1, Phase.COMPLETED),
        (6, 1.0, 1, Phase.COMPLETED),
        (6, 1.0, 0.0, Phase.METADATA),
        (7, 0.5, 1, Phase.UNKNOWN),
    ],
)
def test_a_transmission_status_means(
    status: int, done: float, metadata: float, phase: Phase
) -> None:
    torrent = transmission_torrent(status=status, done=done, metadata=metadata)

    assert transmission.phase_of(torrent) is phase
    assert transmission.status_of(CLIENT, torrent).client_state


@pytest.mark.parametrize("status", [0, 4])
@pytest.mark.parametrize(
    ("words", "reason"),
    [
        ("No data found! Ensure your drives are connected", "missing_files"),
        ("No space left on device (/films/a)", "disk_full"),
        ("Not a directory (/films/a)", "not_writable"),
        ("Permission denied (/films/a)", "not_writable"),
        ("Something new", "client_error"),
    ],
)
def test_a_local_error_of_transmission_is_a_failure(
    status: int, words: str, reason: FailureReason
) -> None:
    failed = transmission.status_of(
        CLIENT, transmission_torrent(status=status, error=3, words=words)
    )

    assert (failed.phase, failed.reason, failed.message) == (Phase.FAILED, reason, words)


@pytest.mark.parametrize("error", [1, 2])
def test_a_tracker_error_of_transmission_is_only_a_message(error: int) -> None:
    going_on = transmission.status_of(CLIENT, transmission_torrent(error=error, words="gave 404"))

    assert (going_on.phase, going_on.reason) == (Phase.DOWNLOADING, None)
    assert going_on.message == "gave 404"


def test_transmission_numbers_are_reported_once_metadata_exists() -> None:
    known = transmission.status_of(CLIENT, transmission_torrent(eta=60))
    unknown = transmission.status_of(CLIENT, transmission_torrent(metadata=0.5, done=1.0, eta=-2))

    assert (known.progress, known.size, known.downloaded, known.eta) == (0.5, 100, 50, 60)
    assert (unknown.progress, unknown.size, unknown.downloaded, unknown.eta) == (0.0, None, 0, None)


@pytest.mark.parametrize(
    ("url", "rpc"),
    [
        ("http://nas:9091", "http://nas:9091/transmission/rpc"),
        ("http://nas:9091/", "http://nas:9091/transmission/rpc"),
        ("http://nas:9091/transmission/web/", "http://nas:9091/transmission/rpc"),
        ("https://nas/transmission", "https://nas/transmission/rpc"),
        ("https://nas/torrents/transmission/rpc", "https://nas/torrents/transmission/rpc"),
        ("https://nas/torrents", "https://nas/torrents/transmission/rpc"),
    ],
)
def test_the_rpc_url_of_transmission_follows_from_any_address(url: str, rpc: str) -> None:
    assert str(rpc_url(url)) == rpc


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        ("write failed: No space left on device", "disk_full"),
        ("open: Read-only file system", "not_writable"),
        ("stat: No such file or directory", "missing_files"),
        ("Hash check I/O error at chunk 0: Not a directory", "not_writable"),
        ("Hash check I/O error at chunk 7: Disk quota exceeded", "disk_full"),
        ("Storage error: [File chunk write error: File too large]", "disk_full"),
        ("open failed: Permission denied (errno 13)", "not_writable"),
        ("write failed: errno 28", "disk_full"),
        ("[Errno 30] /films", "not_writable"),
        ("mkdir: ENOTDIR", "not_writable"),
        ("OSError: EDQUOT", "disk_full"),
        ("Input/output error", "not_writable"),
        ("Unable to save resume file: No such file or directory", "not_writable"),
        ("Couldn't create '/films': No such file or directory", "not_writable"),
        ("Couldn't read '/films': No such file or directory", "missing_files"),
        ("Unable to save resume file: No space left on device", "disk_full"),
        ("File name too long", "not_writable"),
        ("Filename too long", "not_writable"),  # musl
        ("Quota exceeded", "disk_full"),  # musl
        ("Disc quota exceeded", "disk_full"),  # macOS
        ("Stale file handle", "not_writable"),
        ("Transport endpoint is not connected", "not_writable"),
        ("Too many open files", "client_error"),
        ("There is not enough space on the disk", "disk_full"),  # Windows
        ("Access is denied", "not_writable"),
        ("The system cannot find the path specified", "missing_files"),
        ("Auf dem Gerät ist kein Speicherplatz mehr verfügbar", "disk_full"),
        ("Système de fichiers accessible en lecture seulement", "not_writable"),
        ("Permiso denegado", "not_writable"),
        ("设备上没有空间", "disk_full"),
        ("EXTRA EVENTS", "client_error"),
        ("errno 99999", "client_error"),
        ("errno 99999999999999999999", "client_error"),
        ("", "client_error"),
    ],
)
def test_failure_messages_map_to_a_reason(words: str, reason: FailureReason) -> None:
    assert failure_reason(words) == reason


def test_a_title_that_reads_like_an_error_is_not_the_reason() -> None:
    words = "'No space left on device (2020).mkv': open failed: Permission denied"

    assert failure_reason(words) == "not_writable"
    assert failure_reason("No space left on device (/films/Permission denied.mkv)") == "disk_full"


@pytest.mark.parametrize("name", sorted(os_errors.BY_NAME))
def test_a_system_error_is_known_by_name_number_and_text(name: str) -> None:
    number = getattr(errno, name)
    reason = os_errors.BY_NAME[name]

    assert failure_reason(f"it failed: {name}") == reason
    assert failure_reason(f"it failed: errno {number}") == reason
    text = os.strerror(number)
    if text.isascii() and not text.startswith("Invalid or incomplete"):
        assert failure_reason(f"it failed: {text}") == reason
