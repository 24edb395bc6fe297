"""Every word of aria2's own, and what we take it for."""

from typing import Any

import pytest

from mediabus.schemas.status import ClientName, FailureReason, Phase
from mediabus.service.clients.aria2 import Aria2Settings
from mediabus.service.clients.aria2.rpc import rpc_url
from mediabus.service.clients.aria2.states import (
    REASONS,
    STATUSES,
    BitTorrent,
    Download,
    File,
    Info,
    Uri,
    name_of,
    newest,
    phase_of,
    status_of,
)

CLIENT = ClientName("attic")
HASH = "AB" * 20
KNOWN = BitTorrent(Info("Dune"))


def download(status: str = "active", **fields: Any) -> Download:
    return Download(
        **{
            "gid": "0123456789abcdef",
            "status": status,
            "total_length": 100,
            "completed_length": 40,
            "info_hash": HASH,
            "bittorrent": KNOWN,
            **fields,
        }
    )


PHASES = {
    "active": Phase.DOWNLOADING,
    "complete": Phase.COMPLETED,
    "error": Phase.FAILED,
    "paused": Phase.PAUSED,
    "waiting": Phase.QUEUED,
    "a word of next year": Phase.UNKNOWN,
    "": Phase.UNKNOWN,
}


@pytest.mark.parametrize(("word", "phase"), PHASES.items())
def test_a_status_means(word: str, phase: Phase) -> None:
    status = status_of(CLIENT, download(word), "Dune")

    assert (status.item, status.phase, status.client_state) == ("ab" * 20, phase, word)
    assert (status.reason is not None) is (phase is Phase.FAILED)


def test_every_status_of_the_table_is_tried_here() -> None:
    assert STATUSES.keys() <= PHASES.keys()


@pytest.mark.parametrize("word", ["active", "paused", "waiting"])
@pytest.mark.parametrize("facts", [{"seeder": True}, {"completed_length": 100}])
def test_a_download_with_all_its_bytes_is_completed(word: str, facts: dict[str, Any]) -> None:
    status = status_of(CLIENT, download(word, **facts), "Dune")

    assert (status.phase, status.progress) == (Phase.COMPLETED, 1.0)


@pytest.mark.parametrize("word", ["active", "paused", "waiting"])
@pytest.mark.parametrize("facts", [{"verified_length": 0}, {"verify_integrity_pending": True}])
def test_a_download_in_a_check_is_not_completed(word: str, facts: dict[str, Any]) -> None:
    assert phase_of(download(word, completed_length=100, **facts)) is Phase.CHECKING


@pytest.mark.parametrize(
    ("word", "phase"),
    [
        ("active", Phase.METADATA),
        ("complete", Phase.METADATA),  # the metadata are, and another download will follow
        ("paused", Phase.PAUSED),
        ("waiting", Phase.QUEUED),
        ("error", Phase.FAILED),
    ],
)
def test_metadata_are_never_a_completed_download(word: str, phase: Phase) -> None:
    bare = download(word, bittorrent=BitTorrent(), total_length=1351, completed_length=1351)

    status = status_of(CLIENT, bare, "Dune")

    assert status.phase is phase
    assert (status.size, status.downloaded, status.progress) == (None, 0, 0.0)


def test_a_download_that_is_not_a_torrent_has_its_gid_as_id() -> None:
    plain = download(info_hash="", bittorrent=None)

    status = status_of(CLIENT, plain, "a.iso")

    assert (status.item, status.phase, status.size) == (plain.gid, Phase.DOWNLOADING, 100)


def test_numbers_are_passed_on() -> None:
    busy = download(upload_length=7, download_speed=9, upload_speed=3, dir="/films")

    status = status_of(CLIENT, busy, "Dune")

    assert (status.progress, status.size, status.downloaded, status.uploaded) == (0.4, 100, 40, 7)
    assert (status.download_rate, status.upload_rate, status.eta) == (9, 3, 6)
    assert (status.title, status.save_path) == ("Dune", "/films")


@pytest.mark.parametrize(("code", "reason"), REASONS.items())
def test_an_error_code_has_its_reason(code: int, reason: FailureReason) -> None:
    failed = status_of(CLIENT, download("error", error_code=code, error_message="oh"), "Dune")

    assert (failed.reason, failed.message) == (reason, "oh")


@pytest.mark.parametrize(
    ("code", "words", "reason"),
    [
        (17, "write failed: No space left on device", "disk_full"),
        (17, "Failed to read from the file", "client_error"),
        (1, "", "client_error"),
        (99, "something new", "client_error"),
    ],
)
def test_an_unknown_error_code_is_mapped_by_its_message(
    code: int, words: str, reason: FailureReason
) -> None:
    failed = status_of(CLIENT, download("error", error_code=code, error_message=words), "Dune")

    assert (failed.reason, failed.message) == (reason, words or f"aria2 error {code}")


def test_of_all_that_has_the_same_infohash_the_download_counts() -> None:
    failed = download("error", gid="1" * 16, error_code=9)
    metadata = download("complete", gid="2" * 16, followed_by=["5" * 16])
    twice = download("error", gid="3" * 16, error_code=12)
    removed = download("removed", gid="4" * 16)
    alive = download("active", gid="5" * 16)

    assert newest([failed, metadata, twice, removed, alive]) == {"ab" * 20: alive}
    assert newest([failed, metadata, twice, removed]) == {"ab" * 20: failed}
    assert newest([metadata, twice, removed]) == {}


@pytest.mark.parametrize(
    ("files", "name"),
    [
        ([File("/films/a b.iso")], "a b.iso"),
        ([File("[METADATA]named.mkv")], "named.mkv"),
        ([File("[MEMORY][METADATA]named.mkv")], "named.mkv"),
        ([File("", [Uri("http://host/path/a%20b.iso?x=1")])], "a b.iso"),
        ([File("")], ""),
        ([], ""),
    ],
)
def test_a_download_without_a_name_gets_one(files: list[File], name: str) -> None:
    assert name_of(files) == name


@pytest.mark.parametrize(
    ("url", "rpc"),
    [
        ("http://nas:6800", "http://nas:6800/jsonrpc"),
        ("http://nas:6800/", "http://nas:6800/jsonrpc"),
        ("http://nas:6800/jsonrpc", "http://nas:6800/jsonrpc"),
        ("https://nas/aria2", "https://nas/aria2/jsonrpc"),
        ("https://nas/aria2/jsonrpc/", "https://nas/aria2/jsonrpc"),
    ],
)
def test_the_rpc_is_found_from_any_of_its_addresses(url: str, rpc: str) -> None:
    assert str(rpc_url(url)) == rpc


@pytest.mark.parametrize("url", ["", "nas:6800", "ws://nas:6800", "http://"])
def test_an_invalid_address_is_refused_with_the_settings(url: str) -> None:
    with pytest.raises(ValueError, match="url must look like"):
        Aria2Settings(name="a", url=url)
