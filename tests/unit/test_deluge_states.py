"""Every word of Deluge's own, and what we take it for."""

from typing import Any

import pytest

from mediabus.schemas.status import ClientName, FailureReason, Phase
from mediabus.service.clients.deluge.rpc import address
from mediabus.service.clients.deluge.states import STATES, Torrent, label_of, phase_of, status_of

CLIENT = ClientName("attic")
HASH = "AB" * 20


def torrent(state: str = "Downloading", **fields: object) -> Torrent:
    return Torrent(
        **{  # type: ignore[arg-type]
            "name": "Dune",
            "state": state,
            "total_size": 120,
            "total_wanted": 100,
            "total_remaining": 60,
            **fields,
        }
    )


PHASES = {
    "Allocating": Phase.CHECKING,
    "Checking": Phase.CHECKING,
    "Downloading": Phase.DOWNLOADING,
    "Error": Phase.FAILED,
    "Moving": Phase.MOVING,
    "Paused": Phase.PAUSED,
    "Queued": Phase.QUEUED,
    "Seeding": Phase.COMPLETED,
    "a word of next year": Phase.UNKNOWN,
    "": Phase.UNKNOWN,
}


@pytest.mark.parametrize(("state", "phase"), PHASES.items())
def test_a_state_means(state: str, phase: Phase) -> None:
    status = status_of(CLIENT, HASH, torrent(state))

    assert (status.phase, status.client_state) == (phase, state)
    assert (status.reason is not None) is (phase is Phase.FAILED)


def test_every_state_of_the_table_is_tried_here() -> None:
    assert STATES.keys() <= PHASES.keys()


@pytest.mark.parametrize("state", ["Paused", "Queued", "Seeding"])
@pytest.mark.parametrize("facts", [{"is_finished": True}, {"total_remaining": 0}])
def test_a_complete_torrent_stays_completed_while_paused(
    state: str, facts: dict[str, object]
) -> None:
    status = status_of(CLIENT, HASH, torrent(state, **facts))

    assert (status.phase, status.progress, status.downloaded) == (Phase.COMPLETED, 1.0, 100)


@pytest.mark.parametrize("state", ["Error", "Checking", "Moving"])
def test_a_finished_one_in_trouble_or_at_work_is_not_completed(state: str) -> None:
    assert phase_of(torrent(state, is_finished=True)) is PHASES[state]


@pytest.mark.parametrize(
    ("state", "phase"),
    [("Downloading", Phase.METADATA), ("Paused", Phase.PAUSED), ("Queued", Phase.QUEUED)],
)
def test_without_metadata_the_size_is_unknown(state: str, phase: Phase) -> None:
    bare = torrent(state, total_size=0, total_wanted=0, total_remaining=0, eta=-1)

    status = status_of(CLIENT, HASH, bare)

    assert status.phase is phase
    assert (status.item, status.progress, status.downloaded) == ("ab" * 20, 0.0, 0)
    assert (status.size, status.eta, status.save_path, status.category) == (None, None, None, None)


@pytest.mark.parametrize(
    ("facts", "phase"),
    [
        ({"total_wanted": 100, "total_remaining": 60, "paused": False}, Phase.DOWNLOADING),
        ({"total_wanted": 100, "total_remaining": 0, "paused": False}, Phase.COMPLETED),
        ({"total_wanted": 100, "total_remaining": 60, "paused": True}, Phase.PAUSED),
        ({"total_wanted": 0, "total_remaining": 0, "paused": False}, Phase.PAUSED),
    ],
)
def test_hybrid_whose_start_deluge_missed_is_not_paused(
    facts: dict[str, object], phase: Phase
) -> None:
    assert phase_of(torrent("Paused", total_size=0, **facts)) is phase


def test_figures_that_lag_behind_new_metadata_are_no_progress() -> None:
    status = status_of(CLIENT, HASH, torrent(total_wanted=0, total_remaining=0))

    assert (status.phase, status.size, status.downloaded) == (Phase.DOWNLOADING, 120, 0)
    assert status.progress == 0.0


def test_numbers_are_passed_on() -> None:
    status = status_of(
        CLIENT,
        HASH,
        torrent(
            total_uploaded=7,
            download_payload_rate=9,
            upload_payload_rate=3,
            eta=6,
            download_location="/films",
            label="films",
        ),
    )

    assert (status.progress, status.size, status.downloaded, status.uploaded) == (0.4, 100, 40, 7)
    assert (status.download_rate, status.upload_rate, status.eta) == (9, 3, 6)
    assert (status.title, status.save_path, status.category) == ("Dune", "/films", "films")


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        ("Bad address", "disk_full"),
        ("No space left on device", "disk_full"),
        ("Not a directory", "not_writable"),
        ("Failed to move download folder: Permission denied", "not_writable"),
        ("Missing or invalid torrent data!", "missing_files"),
        ("Unable to locate Download Folder!", "missing_files"),
        ("Something new", "client_error"),
    ],
)
def test_an_error_is_a_failure_with_its_reason(message: str, reason: FailureReason) -> None:
    failed = status_of(CLIENT, HASH, torrent("Error", message=message))

    assert (failed.phase, failed.reason, failed.message) == (Phase.FAILED, reason, message)
    assert failed.progress == 0.4


@pytest.mark.parametrize(
    ("words", "shown"),
    [
        ("Announce OK", None),
        ("Announce Sent", None),
        ("Error: timed out", "Error: timed out"),
        ("Warning: not registered", "Warning: not registered"),
    ],
)
def test_tracker_trouble_is_only_a_message(words: str, shown: str | None) -> None:
    going_on = status_of(CLIENT, HASH, torrent(tracker_status=words))

    assert (going_on.phase, going_on.reason) == (Phase.DOWNLOADING, None)
    assert going_on.message == shown


@pytest.mark.parametrize(
    ("facts", "free", "shown"),
    [
        ({}, 4_000_000, "stands still: 4.0 MB are free on its disk, and 5.0 MB are missing"),
        ({}, 5_000_000, None),
        ({}, None, None),
        ({"download_payload_rate": 50_000}, 0, None),
        ({"state": "Paused"}, 0, None),
    ],
)
def test_a_torrent_stopped_by_a_full_disk_has_a_message(
    facts: dict[str, Any], free: int | None, shown: str | None
) -> None:
    still = {"state": "Downloading", "download_payload_rate": 30, "total_remaining": 5_000_000}
    status = status_of(CLIENT, HASH, torrent(**{**still, **facts}), free)
    assert (status.message, status.reason) == (shown, None)


def test_a_category_becomes_a_valid_label() -> None:
    assert label_of("TV-shows_4.k") == "tv-shows_4.k"
    assert label_of("tv & più") == "tv___pi_"


@pytest.mark.parametrize(
    ("url", "where"),
    [
        ("deluge://nas", ("nas", 58846)),
        ("deluge://nas:1234/", ("nas", 1234)),
        (" deluge://[::1]:1234 ", ("::1", 1234)),
    ],
)
def test_an_address_is_a_host_and_perhaps_a_port(url: str, where: tuple[str, int]) -> None:
    assert address(url) == where


@pytest.mark.parametrize("url", ["", "nas:58846", "http://nas:8112", "deluge://"])
def test_the_web_page_is_not_the_daemon(url: str) -> None:
    with pytest.raises(ValueError, match=r"url must look like deluge://host:58846"):
        address(url)
