"""The clock that tells a stall from an outage, a pause and a slow start."""

import msgspec

from schemas.status import ClientName, DownloadStatus, ItemId, Phase
from service.clients.settings import ClientSettings
from service.monitor.stall_clock import LONGEST_GAP, StallClock


def status(
    phase: Phase = Phase.DOWNLOADING, downloaded: int = 0, uploaded: int = 0, idle_for: int = 0
) -> DownloadStatus:
    return DownloadStatus(
        client=ClientName("home"),
        item=ItemId("a"),
        title="a",
        phase=phase,
        downloaded=downloaded,
        uploaded=uploaded,
        idle_for=idle_for,
    )


class Watched:
    """A download that is looked at every ten seconds."""

    def __init__(self, start: DownloadStatus | None = None) -> None:
        self.clock = StallClock(step=10)
        self.now = 0.0
        self.idle_for = 0
        if start:
            self.clock.start_with([start])

    def look(self, shown: DownloadStatus, after: float = 10.0) -> int:
        self.now += after
        shown = msgspec.structs.replace(shown, idle_for=self.idle_for)
        for changed in self.clock.look([shown], self.now):
            self.idle_for = changed.idle_for
        return self.idle_for


def test_time_without_a_byte_adds_up_and_any_byte_either_way_ends_it() -> None:
    watched = Watched()
    assert [watched.look(status()) for _ in range(4)] == [0, 10, 20, 30]
    assert watched.look(status(downloaded=1)) == 0
    assert [watched.look(status(downloaded=1)) for _ in range(2)] == [10, 20]
    assert watched.look(status(downloaded=1, uploaded=1)) == 0


def test_it_tells_the_time_in_steps() -> None:
    watched = Watched()
    assert [watched.look(status(), after=4) for _ in range(7)] == [0, 0, 0, 10, 10, 20, 20]


def test_an_outage_and_a_long_gap_do_not_count() -> None:
    watched = Watched()
    watched.look(status())
    watched.look(status())
    watched.clock.was_away()
    assert watched.look(status(), after=30) == 10
    assert watched.look(status(), after=LONGEST_GAP + 1) == 10
    assert watched.look(status()) == 20


def test_it_goes_on_after_a_restart() -> None:
    watched = Watched(status(downloaded=5, idle_for=3000))
    assert watched.look(status(downloaded=5)) == 3000
    assert watched.look(status(downloaded=5)) == 3010


def test_it_stands_still_while_queued_or_checking_and_starts_anew_after_a_pause() -> None:
    watched = Watched()
    watched.look(status())
    watched.look(status())
    for phase in (Phase.QUEUED, Phase.CHECKING, Phase.MOVING, Phase.UNKNOWN):
        assert watched.look(status(phase)) == 10
    assert watched.look(status()) == 20
    assert watched.look(status(Phase.PAUSED)) == 0
    assert watched.look(status()) == 0
    assert watched.look(status()) == 10


def test_progress_that_a_crash_rolled_back_is_no_progress() -> None:
    watched = Watched()
    watched.look(status(downloaded=100))
    watched.look(status(downloaded=100))
    assert watched.look(status(downloaded=40)) == 20
    assert watched.look(status(downloaded=41)) == 0


def test_what_a_check_finds_again_is_no_byte_that_came() -> None:
    """A client that is restarted, or checks, shows nothing at first and then what was there."""
    watched = Watched(status(downloaded=100, idle_for=3000))
    assert watched.look(status(downloaded=100)) == 3000
    assert watched.look(status(Phase.CHECKING, downloaded=0)) == 3000
    assert watched.look(status(Phase.CHECKING, downloaded=60)) == 3000
    assert watched.look(status(downloaded=100)) == 3010
    assert watched.look(status(Phase.CHECKING, downloaded=0)) == 3010
    assert watched.look(status(downloaded=40)) == 3020
    assert watched.look(status(downloaded=41)) == 0


def test_the_slowest_poll_that_the_settings_allow_counts() -> None:
    client = ClientSettings(name="home", url="", poll_active=60)
    watched = Watched()
    watched.look(status())
    assert watched.look(status(), after=client.poll_active + client.timeout) == 70
