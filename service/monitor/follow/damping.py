"""Damp the events of unstable downloads, whose client changes their state again and again.

After a few changes one event reports the download as unstable, and another one reports when it is
stable again. The row follows every change. Pure: times are seconds of a monotonic clock.
"""

import dataclasses
from collections import deque
from typing import Final
from uuid import UUID

from mediabus.schemas.events import DownloadDestabilized, DownloadStabilized
from mediabus.schemas.operations.requests import DownloadState
from mediabus.service.downloads.row import MONITOR, DownloadRow, Transition

MAX_IN_A_MINUTE: Final = 4
MAX_IN_AN_HOUR: Final = 20
"""State changes of one download that are reported, each with its own event."""

STABLE_AFTER: Final = 300.0
"""Seconds without a change after which a download is stable again."""

ENDS: Final[frozenset[DownloadState]] = frozenset({"completed", "removed", "cancelled"})
"""Final states: transitions to them are always reported."""

MAX_DOWNLOADS: Final = 10_000
"""Downloads whose changes are counted; the oldest one is dropped first."""


class Damper:
    """Count the state changes of one client's downloads. The row stores which ones are unstable."""

    def __init__(self) -> None:
        self._changes: dict[UUID, deque[float]] = {}

    def damped(self, row: DownloadRow, step: Transition, now: float) -> Transition:
        """Return the transition with the events to report.

        A transition that a user requested is reported unchanged and is not counted.
        """
        if not step.events or any(fact.actor != MONITOR for fact in step.events):
            return step
        if step.state in ENDS:
            self._changes.pop(row.id, None)
            return _ended(row, step)
        if row.unstable_since is not None:
            return dataclasses.replace(step, events=())
        if not self._is_too_frequent(row.id, now):
            return step
        event = DownloadDestabilized(**row.facts(size=step.size), state=step.state)
        return dataclasses.replace(step, events=(row.fact(event, MONITOR),), unstable=True)

    def _is_too_frequent(self, download: UUID, now: float) -> bool:
        if download not in self._changes and len(self._changes) >= MAX_DOWNLOADS:
            del self._changes[next(iter(self._changes))]
        changes = self._changes.setdefault(download, deque(maxlen=MAX_IN_AN_HOUR + 1))
        changes.append(now)
        last_minute = sum(now - changed_at < 60 for changed_at in changes)
        last_hour = sum(now - changed_at < 3600 for changed_at in changes)
        return last_minute > MAX_IN_A_MINUTE or last_hour > MAX_IN_AN_HOUR


def _ended(row: DownloadRow, step: Transition) -> Transition:
    if row.unstable_since is None:
        return step
    stable = _stabilize(row, step.state)
    return dataclasses.replace(step, events=(*stable.events, *step.events), unstable=False)


def stabilized(row: DownloadRow) -> Transition:
    """Return the transition of an unstable download that has kept its state long enough."""
    return _stabilize(row, row.state)


def _stabilize(row: DownloadRow, state: DownloadState) -> Transition:
    is_same = state == row.state
    reason, message = (row.reason, row.error_message) if is_same else (None, None)
    event = DownloadStabilized(**row.facts(), state=state, reason=reason, error_message=message)
    fact = row.fact(event, MONITOR)
    return Transition(
        state,
        (fact,),
        reason=reason,
        error_message=message,
        unstable=False,
        given_up=is_same and row.given_up,
    )
