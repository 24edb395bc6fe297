"""What a restart of its client did to a download, told from what a person did."""

import msgspec
import pytest

from schemas.status import ClientName, DownloadStatus, ItemId, Phase
from service.monitor.restarts import SETTLES_WITHIN, Restarts


def status(phase: Phase, *, by_restart: bool = False) -> DownloadStatus:
    return DownloadStatus(
        client=ClientName("home"),
        item=ItemId("a"),
        title="a",
        phase=phase,
        by_restart=by_restart,
    )


class Watched:
    """One download, shown now and then, and what is written of it."""

    def __init__(self, *phases: Phase) -> None:
        self.restarts = Restarts()
        self.written = status(Phase.UNKNOWN)
        for phase in phases:
            self.is_by_restart(phase, at=0)

    def is_by_restart(self, phase: Phase, at: float) -> bool:
        (self.written,) = self.restarts.look([status(phase)], at) or [status(phase)]
        return self.written.by_restart


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (Phase.DOWNLOADING, Phase.PAUSED),
        (Phase.METADATA, Phase.PAUSED),
        (Phase.QUEUED, Phase.PAUSED),
        (Phase.PAUSED, Phase.DOWNLOADING),
    ],
)
def test_what_differs_in_the_first_look_after_a_restart_is_its_doing_for_as_long_as_it_lasts(
    before: Phase, after: Phase
) -> None:
    watched = Watched(before)
    watched.restarts.was_restarted(100)
    assert watched.is_by_restart(after, at=100)
    assert watched.is_by_restart(after, at=100_000)
    assert not watched.is_by_restart(before, at=200_000)
    assert not watched.is_by_restart(after, at=200_001)


def test_without_a_restart_a_pause_is_somebody_s() -> None:
    watched = Watched(Phase.DOWNLOADING)
    assert not watched.is_by_restart(Phase.PAUSED, at=100)


def test_what_is_as_before_is_nobody_s_and_what_changes_later_is_somebody_s() -> None:
    watched = Watched(Phase.DOWNLOADING)
    watched.restarts.was_restarted(100)
    assert not watched.is_by_restart(Phase.QUEUED, at=100)
    assert not watched.is_by_restart(Phase.PAUSED, at=100 + SETTLES_WITHIN)


def test_a_client_that_shows_what_it_loaded_only_later_is_given_the_time() -> None:
    watched = Watched(Phase.DOWNLOADING)
    watched.restarts.was_restarted(100)
    assert not watched.is_by_restart(Phase.QUEUED, at=100)
    assert watched.is_by_restart(Phase.PAUSED, at=102)


def test_what_is_checked_first_is_known_only_afterwards() -> None:
    watched = Watched(Phase.DOWNLOADING)
    watched.restarts.was_restarted(100)
    for at in (100, 105, 4000):
        assert not watched.is_by_restart(Phase.CHECKING, at=at)
    assert watched.is_by_restart(Phase.PAUSED, at=4002)


@pytest.mark.parametrize("end", [Phase.COMPLETED, Phase.FAILED])
def test_what_has_ended_is_done_with_the_restart(end: Phase) -> None:
    watched = Watched(Phase.DOWNLOADING)
    watched.restarts.was_restarted(100)
    assert watched.is_by_restart(Phase.PAUSED, at=100)
    assert not watched.is_by_restart(end, at=101)
    assert not watched.is_by_restart(Phase.PAUSED, at=102)


def test_what_is_new_after_a_restart_was_added_as_it_is() -> None:
    watched = Watched()
    watched.restarts.was_restarted(100)
    assert not watched.is_by_restart(Phase.PAUSED, at=100)


def test_another_watcher_goes_on_from_what_is_written() -> None:
    watched = Watched(Phase.DOWNLOADING)
    watched.restarts.was_restarted(100)
    assert watched.is_by_restart(Phase.PAUSED, at=100)
    heir = Watched()
    heir.restarts.start_with([watched.written])
    assert heir.is_by_restart(Phase.PAUSED, at=0)
    # And what was paused while nobody watched was paused by somebody.
    other = Watched()
    other.restarts.start_with([msgspec.structs.replace(watched.written, phase=Phase.DOWNLOADING)])
    assert not other.is_by_restart(Phase.PAUSED, at=0)
