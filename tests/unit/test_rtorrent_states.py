"""What rTorrent says of a torrent, and what we take it for."""

import xmlrpc.client
from typing import Any

import msgspec
import pytest

from mediabus.schemas.status import ClientName, FailureReason, Phase
from mediabus.service.clients.port import ClientUnavailable
from mediabus.service.clients.rtorrent import RTorrentSettings
from mediabus.service.clients.rtorrent.session import RTorrent, folders_of
from mediabus.service.clients.rtorrent.states import (
    NUMBERS,
    Selection,
    Torrent,
    failure_of,
    selection_of,
    status_of,
    torrent_of,
)
from mediabus.service.clients.selection import NOTHING_WANTED

CLIENT = ClientName("attic")
STARTED: dict[str, Any] = {"state": 1, "is_active": 1}


def a_torrent(*, message: str = "", name: str = "a", **numbers: Any) -> Torrent:
    """Of 100 bytes, half there."""
    fields = dict.fromkeys(Torrent.__struct_fields__[5:], 0) | {"size": 100, "done": 50} | numbers
    return Torrent("AB" * 20, name, message, "/films", "tv%20%26%20pi%C3%B9", **fields)


@pytest.mark.parametrize(
    ("numbers", "phase", "word"),
    [
        ({"state": 1, "is_active": 1}, Phase.DOWNLOADING, "active"),
        ({"state": 1, "is_active": 1, "is_meta": 1}, Phase.METADATA, "active"),
        ({"state": 1, "is_active": 0}, Phase.PAUSED, "paused"),
        ({"state": 0, "is_active": 0}, Phase.PAUSED, "stopped"),
        ({"state": 0, "is_active": 0, "is_meta": 1}, Phase.PAUSED, "stopped"),
        ({"state": 1, "is_active": 0, "hashing": 1}, Phase.CHECKING, "hashing"),
        ({"state": 1, "is_active": 0, "hashing": 2, "complete": 1}, Phase.CHECKING, "hashing"),
        ({"state": 0, "is_active": 0, "hashing": 3}, Phase.CHECKING, "hashing"),
        ({"state": 1, "is_active": 1, "complete": 1}, Phase.COMPLETED, "active"),
        ({"state": 1, "is_active": 0, "complete": 1}, Phase.COMPLETED, "paused"),
        ({"state": 0, "is_active": 0, "complete": 1}, Phase.COMPLETED, "stopped"),
        ({"state": 1, "hashing": 1, "hashing_failed": 1}, Phase.FAILED, "hashing"),
        ({"state": 0, "hashing_failed": 1}, Phase.PAUSED, "stopped"),
    ],
)
def test_an_rtorrent_row_means(numbers: dict[str, Any], phase: Phase, word: str) -> None:
    status = status_of(CLIENT, a_torrent(**numbers))

    assert (status.phase, status.client_state) == (phase, word)
    assert (status.reason is not None) is (phase is Phase.FAILED)
    assert (status.message is not None) is (phase is Phase.FAILED)


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        ("", None),
        ("Tracker: [Could not parse bencoded data]", None),
        ("Cannot change the directory of an open download after the files", None),
        (
            "Download registered as completed, but hash check returned unfinished chunks.",
            "missing_files",
        ),
        ("Low diskspace.", "disk_full"),
        ("Hash check on download completion found bad chunks", "client_error"),
        ("Hash check I/O error at chunk 0: Not a directory", "not_writable"),
        ("Storage error: [File chunk write error: No space left on device.]", "disk_full"),
        ("Something new", "client_error"),
    ],
)
def test_a_message_of_rtorrent_is_a_failure_if_the_torrent_rests(
    message: str, reason: FailureReason | None
) -> None:
    resting = status_of(CLIENT, a_torrent(state=0, message=message))

    assert resting.reason == failure_of(a_torrent(state=0, message=message)) == reason
    assert resting.message == (message or None)
    assert resting.phase is (Phase.FAILED if reason else Phase.PAUSED)
    assert status_of(CLIENT, a_torrent(message=message, **STARTED)).phase is Phase.DOWNLOADING


def test_rtorrent_numbers_are_reported_once_metadata_exists() -> None:
    known = status_of(CLIENT, a_torrent(down_rate=5, up_rate=3, uploaded=9, **STARTED))
    seeking = status_of(CLIENT, a_torrent(name=f"{'AB' * 20}.meta", is_meta=1, **STARTED))

    assert (known.item, known.progress, known.size, known.downloaded) == ("ab" * 20, 0.5, 100, 50)
    assert (known.download_rate, known.upload_rate, known.uploaded, known.eta) == (5, 3, 9, 10)
    assert known.category == "tv & più"
    assert (seeking.title, seeking.size, seeking.progress) == ("AB" * 20, None, 0.0)


def test_rtorrent_counts_only_selected_files() -> None:
    chunks: dict[str, Any] = {"size_chunks": 10, "completed_chunks": 5, "is_hash_checked": 1}
    half = a_torrent(wanted_chunks=2, **chunks, **STARTED)
    all_wanted = a_torrent(wanted_chunks=0, is_partially_done=1, **chunks, **STARTED)
    selection = Selection(wanted=60, unwanted_done=8)

    halfway = status_of(CLIENT, half, selection)
    done = status_of(CLIENT, all_wanted, selection)

    assert (halfway.phase, halfway.size, halfway.downloaded) == (Phase.DOWNLOADING, 60, 42)
    assert (done.phase, done.size, done.downloaded, done.progress) == (Phase.COMPLETED, 60, 60, 1.0)
    assert done.warning is None


def test_an_rtorrent_download_without_selected_files_has_a_warning() -> None:
    torrent = a_torrent(is_hash_checked=1, is_partially_done=1, size_chunks=10, **STARTED)

    status = status_of(CLIENT, torrent, Selection(wanted=0, unwanted_done=0))

    assert (status.phase, status.size, status.warning) == (Phase.COMPLETED, 0, NOTHING_WANTED)


def test_an_unchecked_torrent_is_not_partially_done() -> None:
    assert not a_torrent(is_partially_done=1).has_all_wanted


def test_a_selection_counts_selected_and_deselected_bytes() -> None:
    assert selection_of([[100, 3, 1], [50, 1, 0], [70, 9, 0], [30, 0, 2]], 20) == Selection(130, 90)


@pytest.mark.parametrize(
    ("several", "directory", "path"),
    [(0, "/films", "/films"), (1, "/films/a", "/films"), (1, "/films/other", "/films/other")],
)
def test_save_path_of_rtorrent_is_the_parent_folder(
    several: int, directory: str, path: str
) -> None:
    torrent = msgspec.structs.replace(a_torrent(is_multi_file=several), directory=directory)

    assert status_of(CLIENT, torrent).save_path == path


def test_a_row_is_parsed() -> None:
    numbers = "  ".join(str(number) for number in range(len(NUMBERS)))

    torrent = torrent_of(["AB", "a", "", "/films", "", numbers])

    assert (torrent.hash, torrent.state, torrent.up_rate) == ("AB", 0, len(NUMBERS) - 1)


class Answering:
    """A way to an rTorrent that answers a look with these rows."""

    def __init__(self, rows: Any) -> None:
        self.rows = rows

    async def post(self, body: bytes, *, repeatable: bool) -> bytes:  # noqa: ARG002
        return xmlrpc.client.dumps(([[1], [self.rows]],), methodresponse=True).encode()


@pytest.mark.parametrize(
    "rows",
    [
        7,
        [7],
        [[]],
        [["AB"]],
        [["AB", "a", "", "/films", "", 7]],
        [["AB", "a", "", "/films", "", "1 2"]],
        [["AB", "a", "", "/films", "", "1 2 three"]],
    ],
)
async def test_an_answer_without_rows_is_a_protocol_error(rows: Any) -> None:
    client = RTorrent(Answering(rows), RTorrentSettings(name="rt", url="scgi://127.0.0.1:9"))

    with pytest.raises(ClientUnavailable, match="expected torrents, got") as misunderstood:
        await client.observe()
    assert misunderstood.value.reason == "protocol"


def test_folders_are_deepest_first_and_inside_the_top() -> None:
    paths = ["/films/a/b/c/1", "/films/a/b/2", "/films/a/d/3", "/films/x/4"]

    folders = folders_of(paths, "/films/a")

    assert folders[0] == "/films/a/b/c"
    assert folders[-1] == "/films/a"
    assert sorted(folders) == ["/films/a", "/films/a/b", "/films/a/b/c", "/films/a/d"]
