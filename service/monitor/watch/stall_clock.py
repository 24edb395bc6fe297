"""Measure how long each download has received no byte while it was downloading.

The rates that clients report lag by up to a minute, and clients report "stalled" in the first
seconds of a normal download. Byte counters are reliable. Pure: times are seconds of a monotonic
clock.
"""

import dataclasses
from collections.abc import Iterable
from typing import Final

import msgspec

from mediabus.schemas.status import TRANSFERRING, DownloadStatus, ItemId, Phase

LONGEST_GAP: Final = 120.0
"""Seconds between two polls beyond which the time in between does not count. The slowest poll that
the settings allow takes less, including its reply."""

WAITING: Final = frozenset(
    {Phase.QUEUED, Phase.CHECKING, Phase.MOVING, Phase.PROCESSING, Phase.UNKNOWN}
)
"""The phases that stop the clock. All other phases, such as paused and completed, reset it."""


@dataclasses.dataclass
class _Idle:
    downloaded: int
    uploaded: int
    seconds: float
    moved: bool = False  # a byte arrived since the first poll


class StallClock:
    """The stall clocks of one client's downloads.

    ``idle_for`` is rounded down to a multiple of ``step`` seconds: each change of it writes a
    status to the bucket.
    """

    def __init__(self, step: float) -> None:
        self._step = step
        self._idle: dict[ItemId, _Idle] = {}
        self._polled_at: float | None = None

    def start_with(self, statuses: Iterable[DownloadStatus]) -> None:
        """Continue from the statuses in the bucket."""
        for status in statuses:
            self._idle[status.item] = _Idle(
                status.downloaded, status.uploaded, float(status.idle_for), status.moved
            )

    def pause(self) -> None:
        """Exclude the time until the next poll: the client is unreachable."""
        self._polled_at = None

    def update(self, shown: Iterable[DownloadStatus], now: float) -> list[DownloadStatus]:
        """Count the time since the last poll.

        Returns the statuses whose ``idle_for`` or ``moved`` changed, with the new values.
        """
        gap = 0.0 if self._polled_at is None else now - self._polled_at
        self._polled_at = now
        counted = gap if gap <= LONGEST_GAP else 0.0
        kept: dict[ItemId, _Idle] = {}
        changed = []
        for status in shown:
            idle_for, moved = 0, False
            if status.phase in TRANSFERRING or status.phase in WAITING:
                idle = kept[status.item] = self._count(status, counted)
                idle_for, moved = int(idle.seconds // self._step * self._step), idle.moved
            if (idle_for, moved) != (status.idle_for, status.moved):
                changed.append(msgspec.structs.replace(status, idle_for=idle_for, moved=moved))
        self._idle = kept
        return changed

    def _count(self, status: DownloadStatus, seconds: float) -> _Idle:
        idle = self._idle.get(status.item)
        if idle is None:
            return _Idle(status.downloaded, status.uploaded, 0.0)
        if status.phase not in TRANSFERRING:  # a check after a restart reports no bytes at first
            return idle
        # A counter that decreased was rolled back by a crash: no byte arrived.
        moved = status.downloaded > idle.downloaded or status.uploaded > idle.uploaded
        idle.downloaded, idle.uploaded = status.downloaded, status.uploaded
        idle.seconds = 0.0 if moved else idle.seconds + seconds
        idle.moved = idle.moved or moved
        return idle
