"""How long each download has been without a byte, counted only while it was seen to download.

Clients' own rates lie for a minute, and their word "stalled" is normal in the first seconds; bytes
do not lie. Pure: time comes in as seconds of a monotonic clock.
"""

import dataclasses
from collections.abc import Iterable
from typing import Final

import msgspec

from schemas.status import DownloadStatus, ItemId, Phase

LONGEST_GAP: Final = 120.0
"""Seconds between two looks beyond which nothing is known of the time in between: more than the
slowest poll that the settings allow, and its answer, take."""

RUNS: Final = frozenset({Phase.DOWNLOADING, Phase.METADATA})
STANDS: Final = frozenset(
    {Phase.QUEUED, Phase.CHECKING, Phase.MOVING, Phase.PROCESSING, Phase.UNKNOWN}
)
"""In the other phases it starts anew: a download that is paused or at its end is not waiting."""


@dataclasses.dataclass
class _Idle:
    downloaded: int
    uploaded: int
    seconds: float


class StallClock:
    """The clocks of one client's downloads. ``step`` is how exactly the statuses tell the time, in
    seconds: each step is a status to be written."""

    def __init__(self, step: float) -> None:
        self._step = step
        self._idle: dict[ItemId, _Idle] = {}
        self._looked_at: float | None = None

    def start_with(self, statuses: Iterable[DownloadStatus]) -> None:
        """Goes on from what the bucket says."""
        for status in statuses:
            self._idle[status.item] = _Idle(
                status.downloaded, status.uploaded, float(status.idle_for)
            )

    def was_away(self) -> None:
        """The client could not be asked: the time until the next look does not count."""
        self._looked_at = None

    def look(self, shown: Iterable[DownloadStatus], now: float) -> list[DownloadStatus]:
        """Counts the time since the last look, and answers the statuses with their ``idle_for``
        where that is not what they say."""
        gap = 0.0 if self._looked_at is None else now - self._looked_at
        self._looked_at = now
        counted = gap if gap <= LONGEST_GAP else 0.0
        kept: dict[ItemId, _Idle] = {}
        changed = []
        for status in shown:
            if status.phase not in RUNS and status.phase not in STANDS:
                idle_for = 0
            else:
                idle = kept[status.item] = self._count(status, counted)
                idle_for = int(idle.seconds // self._step * self._step)
            if idle_for != status.idle_for:
                changed.append(msgspec.structs.replace(status, idle_for=idle_for))
        self._idle = kept
        return changed

    def _count(self, status: DownloadStatus, seconds: float) -> _Idle:
        idle = self._idle.get(status.item)
        if idle is None:
            return _Idle(status.downloaded, status.uploaded, 0.0)
        if status.phase not in RUNS:  # a check, as after a restart, begins with none of the bytes
            return idle
        # A counter that fell was rolled back by a crash: no byte came.
        moved = status.downloaded > idle.downloaded or status.uploaded > idle.uploaded
        idle.downloaded, idle.uploaded = status.downloaded, status.uploaded
        idle.seconds = 0.0 if moved else idle.seconds + seconds
        return idle
