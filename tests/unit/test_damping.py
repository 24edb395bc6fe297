"""Events of unstable downloads are damped."""

import dataclasses
import datetime

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from mediabus.schemas.events import DownloadPaused
from mediabus.service.downloads.row import MONITOR, DownloadRow, Transition
from mediabus.service.monitor.follow.damping import ENDS, STABLE_AFTER, Damper, stabilized
from tests.support.lives import NOW, USER, row


class Life:
    """A download that changes its state, and the types of its events."""

    def __init__(self) -> None:
        self.damper = Damper()
        self.row: DownloadRow = row("active")
        self.now = 0.0
        self.turned_at = 0.0
        self.told: list[str] = []

    def turn(self, after: float, state: str | None = None, *, asked: bool = False) -> None:
        until = self.now + after
        self._be_steady(until)
        self.now = self.turned_at = until
        event = DownloadPaused(**self.row.facts())
        fact = self.row.fact(event, USER if asked else MONITOR)
        wanted = state or ("active" if self.row.state == "paused" else "paused")
        step = msgspec.convert({"state": wanted, "events": ()}, Transition)
        step = dataclasses.replace(step, events=(fact,))
        self._take(self.damper.damped(self.row, step, self.now))

    def _be_steady(self, until: float) -> None:
        if self.row.unstable_since and until - self.turned_at > STABLE_AFTER:
            self._take(stabilized(self.row))

    def _take(self, step: Transition) -> None:
        self.told += [fact.event.type for fact in step.events]
        since: datetime.datetime | None = self.row.unstable_since
        if step.unstable is not None:
            since = NOW if step.unstable else None
        self.row = msgspec.structs.replace(self.row, state=step.state, unstable_since=since)


def test_frequent_changes_emit_destabilized_once() -> None:
    life = Life()
    for _ in range(720):
        life.turn(5.0)
    assert life.told == ["download.paused"] * 4 + ["download.destabilized"]


def test_download_is_stable_after_five_minutes_without_change() -> None:
    life = Life()
    for _ in range(10):
        life.turn(5.0)
    life.turn(301.0)
    assert life.told[-2:] == ["download.stabilized", "download.paused"]


def test_final_state_is_always_reported() -> None:
    for end in ENDS:
        life = Life()
        for _ in range(10):
            life.turn(5.0)
        life.turn(5.0, end)
        assert life.told[-2:] == ["download.stabilized", "download.paused"]
        assert life.row.unstable_since is None


def test_requested_changes_are_reported_and_not_counted() -> None:
    life = Life()
    for _ in range(10):
        life.turn(1.0, asked=True)
    assert life.told == ["download.paused"] * 10


@given(st.lists(st.floats(0.1, 400.0), min_size=1, max_size=400))
def test_events_per_hour_are_limited(rhythm: list[float]) -> None:
    life = Life()
    index = 0
    while life.now < 3600:
        life.turn(rhythm[index % len(rhythm)])
        index += 1
    assert len(life.told) <= 50
