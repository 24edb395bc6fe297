"""Find the downloads that a restart of their client paused or resumed.

A client that crashed restores its last saved state, in which other downloads may be paused.
Pure: times are seconds of a monotonic clock.
"""

from collections.abc import Iterable
from typing import Final

import msgspec

from mediabus.schemas.status import DownloadStatus, ItemId, Phase

RESTORES_WITHIN: Final = 10.0
"""Seconds after the first poll of a restarted client in which changes count as caused by the
restart. For a download that is checked first, they start after the check."""

IS_PAUSED: Final = {
    Phase.QUEUED: False,
    Phase.METADATA: False,
    Phase.DOWNLOADING: False,
    Phase.PAUSED: True,
}
ENDED: Final = frozenset({Phase.COMPLETED, Phase.FAILED})
"""In the remaining phases it is not known yet whether the download is paused."""


class Restarts:
    """The effects of the restarts of one client."""

    def __init__(self) -> None:
        self._was_paused: dict[ItemId, bool] = {}
        self._by_restart: set[ItemId] = set()
        self._restored_at: dict[ItemId, float] = {}

    def start_with(self, statuses: Iterable[DownloadStatus]) -> None:
        """Continue from the statuses in the bucket."""
        for status in statuses:
            if status.phase in IS_PAUSED:
                self._was_paused[status.item] = IS_PAUSED[status.phase]
            if status.by_restart:
                self._by_restart.add(status.item)

    def note_restart(self, now: float) -> None:
        """Note that the client was restarted before this poll."""
        self._restored_at = dict.fromkeys(self._was_paused, now + RESTORES_WITHIN)

    def update(self, shown: Iterable[DownloadStatus], now: float) -> list[DownloadStatus]:
        """Return the statuses whose ``by_restart`` changed, with the new value."""
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
            self._restored_at.pop(item, None)
        elif is_paused is None:
            if item in self._restored_at:
                self._restored_at[item] = now + RESTORES_WITHIN
        elif is_paused != self._was_paused.setdefault(item, is_paused):
            self._was_paused[item] = is_paused
            if now < self._restored_at.get(item, now):
                self._by_restart.add(item)
            else:
                self._by_restart.discard(item)
