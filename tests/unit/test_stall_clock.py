"""The stall clock counts neither outages nor pauses nor slow starts."""

import msgspec

from mediabus.schemas.status import ClientName, DownloadStatus, ItemId, Phase
from mediabus.service.clients.settings import ClientSettings
from mediabus.service.monitor.watch.stall_clock import LONGEST_GAP, StallClock


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
    """A download that is polled every ten seconds."""

    def __init__(self, start: DownloadStatus | None = None) -> None:
        self.clock = StallClock(step=10)
        self.now = 0.0
        self.idle_for = 0
        if start:
            self.clock.start_with([start])

    def poll(self, shown: DownloadStatus, after: float = 10.0) -> int:
        self.now += after
        shown = msgspec.structs.replace(shown, idle_for=self.idle_for)
        for changed in self.clock.update([shown], self.now):
            self.idle_for = changed.idle_for
        return self.idle_for


def test_idle_time_adds_up_until_a_byte_is_transferred() -> None:
    watched = Watched()
    assert [watched.poll(status()) for _ in range(4)] == [0, 10, 20, 30]
    assert watched.poll(status(downloaded=1)) == 0
    assert [watched.poll(status(downloaded=1)) for _ in range(2)] == [10, 20]
    assert watched.poll(status(downloaded=1, uploaded=1)) == 0


def test_idle_time_is_rounded_down_to_steps() -> None:
    watched = Watched()
    assert [watched.poll(status(), after=4) for _ in range(7)] == [0, 0, 0, 10, 10, 20, 20]


def test_outages_and_long_gaps_do_not_count() -> None:
    watched = Watched()
    watched.poll(status())
    watched.poll(status())
    watched.clock.pause()
    assert watched.poll(status(), after=30) == 10
    assert watched.poll(status(), after=LONGEST_GAP + 1) == 10
    assert watched.poll(status()) == 20


def test_clock_continues_after_a_restart() -> None:
    watched = Watched(status(downloaded=5, idle_for=3000))
    assert watched.poll(status(downloaded=5)) == 3000
    assert watched.poll(status(downloaded=5)) == 3010


def test_clock_stops_while_queued_and_resets_when_paused() -> None:
    watched = Watched()
    watched.poll(status())
    watched.poll(status())
    for phase in (Phase.QUEUED, Phase.CHECKING, Phase.MOVING, Phase.UNKNOWN):
        assert watched.poll(status(phase)) == 10
    assert watched.poll(status()) == 20
    assert watched.poll(status(Phase.PAUSED)) == 0
    assert watched.poll(status()) == 0
    assert watched.poll(status()) == 10


def test_counter_rolled_back_by_a_crash_is_not_progress() -> None:
    watched = Watched()
    watched.poll(status(downloaded=100))
    watched.poll(status(downloaded=100))
    assert watched.poll(status(downloaded=40)) == 20
    assert watched.poll(status(downloaded=41)) == 0


def test_bytes_found_by_a_check_are_no_progress() -> None:
    """During a check, a client reports no bytes at first and then those on disk."""
    watched = Watched(status(downloaded=100, idle_for=3000))
    assert watched.poll(status(downloaded=100)) == 3000
    assert watched.poll(status(Phase.CHECKING, downloaded=0)) == 3000
    assert watched.poll(status(Phase.CHECKING, downloaded=60)) == 3000
    assert watched.poll(status(downloaded=100)) == 3010
    assert watched.poll(status(Phase.CHECKING, downloaded=0)) == 3010
    assert watched.poll(status(downloaded=40)) == 3020
    assert watched.poll(status(downloaded=41)) == 0


def test_slowest_configurable_poll_counts() -> None:
    client = ClientSettings(name="home", url="", poll_active=60)
    watched = Watched()
    watched.poll(status())
    assert watched.poll(status(), after=client.poll_active + client.timeout) == 70


def test_moved_is_set_after_the_first_byte() -> None:
    def moved(clock: StallClock, shown: DownloadStatus, now: float) -> bool:
        return any(changed.moved for changed in clock.update([shown], now))

    clock = StallClock(step=10)
    assert not moved(clock, status(downloaded=5), 0.0)
    assert not moved(clock, status(downloaded=5), 10.0)
    assert moved(clock, status(downloaded=6), 20.0)
    assert moved(clock, status(downloaded=6), 30.0)
    later = StallClock(step=10)
    later.start_with([msgspec.structs.replace(status(downloaded=6), moved=True)])
    assert moved(later, status(downloaded=6), 0.0)
