"""Changes by a client restart are distinguished from changes by a user."""

import msgspec
import pytest

from mediabus.schemas.status import ClientName, DownloadStatus, ItemId, Phase
from mediabus.service.monitor.watch.restarts import RESTORES_WITHIN, Restarts


def status(phase: Phase, *, by_restart: bool = False) -> DownloadStatus:
    return DownloadStatus(
        client=ClientName("home"),
        item=ItemId("a"),
        title="a",
        phase=phase,
        by_restart=by_restart,
    )


class Watched:
    """A download that is polled, and its latest written status."""

    def __init__(self, *phases: Phase) -> None:
        self.restarts = Restarts()
        self.written = status(Phase.UNKNOWN)
        for phase in phases:
            self.is_by_restart(phase, at=0)

    def is_by_restart(self, phase: Phase, at: float) -> bool:
        (self.written,) = self.restarts.update([status(phase)], at) or [status(phase)]
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
def test_change_in_first_poll_after_restart_is_marked(before: Phase, after: Phase) -> None:
    watched = Watched(before)
    watched.restarts.note_restart(100)
    assert watched.is_by_restart(after, at=100)
    assert watched.is_by_restart(after, at=100_000)
    assert not watched.is_by_restart(before, at=200_000)
    assert not watched.is_by_restart(after, at=200_001)


def test_pause_without_restart_is_not_marked() -> None:
    watched = Watched(Phase.DOWNLOADING)
    assert not watched.is_by_restart(Phase.PAUSED, at=100)


def test_unchanged_or_later_changed_download_is_not_marked() -> None:
    watched = Watched(Phase.DOWNLOADING)
    watched.restarts.note_restart(100)
    assert not watched.is_by_restart(Phase.QUEUED, at=100)
    assert not watched.is_by_restart(Phase.PAUSED, at=100 + RESTORES_WITHIN)


def test_change_shortly_after_restart_is_marked() -> None:
    watched = Watched(Phase.DOWNLOADING)
    watched.restarts.note_restart(100)
    assert not watched.is_by_restart(Phase.QUEUED, at=100)
    assert watched.is_by_restart(Phase.PAUSED, at=102)


def test_change_after_the_first_check_is_marked() -> None:
    watched = Watched(Phase.DOWNLOADING)
    watched.restarts.note_restart(100)
    for at in (100, 105, 4000):
        assert not watched.is_by_restart(Phase.CHECKING, at=at)
    assert watched.is_by_restart(Phase.PAUSED, at=4002)


@pytest.mark.parametrize("end", [Phase.COMPLETED, Phase.FAILED])
def test_finished_download_loses_the_mark(end: Phase) -> None:
    watched = Watched(Phase.DOWNLOADING)
    watched.restarts.note_restart(100)
    assert watched.is_by_restart(Phase.PAUSED, at=100)
    assert not watched.is_by_restart(end, at=101)
    assert not watched.is_by_restart(Phase.PAUSED, at=102)


def test_new_download_after_restart_is_not_marked() -> None:
    watched = Watched()
    watched.restarts.note_restart(100)
    assert not watched.is_by_restart(Phase.PAUSED, at=100)


def test_new_watcher_continues_from_the_bucket() -> None:
    watched = Watched(Phase.DOWNLOADING)
    watched.restarts.note_restart(100)
    assert watched.is_by_restart(Phase.PAUSED, at=100)
    heir = Watched()
    heir.restarts.start_with([watched.written])
    assert heir.is_by_restart(Phase.PAUSED, at=0)
    # A pause while no monitor ran counts as one by a person.
    other = Watched()
    other.restarts.start_with([msgspec.structs.replace(watched.written, phase=Phase.DOWNLOADING)])
    assert not other.is_by_restart(Phase.PAUSED, at=0)
