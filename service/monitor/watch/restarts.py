"""Which downloads are paused, or run, because their client was restarted, and nobody asked for it.

A client that is killed comes back as it last saved itself: what ran may be paused, and vice versa.
Pure: time comes in as seconds of a monotonic clock.
"""

from collections.abc import Iterable
from typing import Final

import msgspec

from schemas.status import DownloadStatus, ItemId, Phase

SETTLES_WITHIN: Final = 10.0
"""Seconds after a restart's first look in which what differs from before is the restart's doing.
For what is being checked first, as many after that."""

IS_PAUSED: Final = {
    Phase.QUEUED: False,
    Phase.METADATA: False,
    Phase.DOWNLOADING: False,
    Phase.PAUSED: True,
}
ENDED: Final = frozenset({Phase.COMPLETED, Phase.FAILED})
"""In the remaining phases nothing is known of it yet."""


class Restarts:
    """What the restarts of one client left behind."""

    def __init__(self) -> None:
        self._was_paused: dict[ItemId, bool] = {}
        self._by_restart: set[ItemId] = set()
        self._settled_at: dict[ItemId, float] = {}

    def start_with(self, statuses: Iterable[DownloadStatus]) -> None:
        """Goes on from what the bucket says."""
        for status in statuses:
            if status.phase in IS_PAUSED:
                self._was_paused[status.item] = IS_PAUSED[status.phase]
            if status.by_restart:
                self._by_restart.add(status.item)

    def was_restarted(self, now: float) -> None:
        """The client was: the next look is the first one after that."""
        self._settled_at = dict.fromkeys(self._was_paused, now + SETTLES_WITHIN)

    def look(self, shown: Iterable[DownloadStatus], now: float) -> list[DownloadStatus]:
        """Answers the statuses with their ``by_restart`` where that is not what they say."""
        changed = []
        for status in shown:
            self._note(status, now)
            by_restart = status.item in self._by_restart
            if by_restart != status.by_restart:
                changed.append(msgspec.structs.replace(status, by_restart=by_restart))
        return changed

    def _note(self, status: DownloadStatus, now: float) -> None:
        item, is_paused = status.item, IS_PAUSED.get(status.phase)
        if status.phase in ENDED:
            self._by_restart.discard(item)
            self._was_paused.pop(item, None)
            self._settled_at.pop(item, None)
        elif is_paused is None:
            if item in self._settled_at:
                self._settled_at[item] = now + SETTLES_WITHIN
        elif is_paused != self._was_paused.setdefault(item, is_paused):
            self._was_paused[item] = is_paused
            if now < self._settled_at.get(item, now):
                self._by_restart.add(item)
            else:
                self._by_restart.discard(item)
