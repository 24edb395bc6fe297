"""Find downloads that their client retries under a new id, as SABnzbd does from its history.

The failed entry disappears and another one of the same title appears. Both are the same download:
the status of the new one has the old id as an alias, so that the row is updated. Pure: times are
seconds of a monotonic clock.
"""

from collections.abc import Iterable
from typing import Final

import msgspec

from mediabus.schemas.status import DownloadStatus, ItemId, Phase

TOGETHER: Final = 30.0
"""Maximum seconds between the end of the old entry and the start of the new one, in any order."""


class Retries:
    """The retried downloads of one client."""

    def __init__(self) -> None:
        self._failed: dict[ItemId, tuple[str, float]] = {}  # its title, and when it was last shown
        self._first_shown: dict[ItemId, float] = {}
        self._aliases: dict[ItemId, tuple[ItemId, ...]] = {}

    def start_with(self, statuses: Iterable[DownloadStatus], now: float) -> None:
        """Continue from the statuses in the bucket: they are not new entries."""
        for status in statuses:
            self._first_shown[status.item] = now - 2 * TOGETHER
            self._note_failure(status, now)
            if status.aliases:
                self._aliases[status.item] = status.aliases

    def update(self, shown: Iterable[DownloadStatus], now: float) -> list[DownloadStatus]:
        """Return the statuses whose aliases changed, with the new aliases."""
        statuses = {status.item: status for status in shown}
        self._first_shown = {item: self._first_shown.get(item, now) for item in statuses}
        self._aliases = {item: it for item, it in self._aliases.items() if item in statuses}
        self._failed = {item: it for item, it in self._failed.items() if now - it[1] <= TOGETHER}
        for item in self._failed.keys() - statuses.keys():
            self._find_retry(item, statuses.values(), now)
        for status in statuses.values():
            self._note_failure(status, now)
        return [
            msgspec.structs.replace(statuses[item], aliases=aliases)
            for item, aliases in self._aliases.items()
            if statuses[item].aliases != aliases
        ]

    def _note_failure(self, status: DownloadStatus, now: float) -> None:
        if status.phase is Phase.FAILED:
            self._failed[status.item] = (status.title, now)
        else:
            self._failed.pop(status.item, None)

    def _find_retry(self, item: ItemId, shown: Iterable[DownloadStatus], now: float) -> None:
        title, _ = self._failed[item]
        for status in shown:
            is_new = now - self._first_shown[status.item] <= TOGETHER
            if is_new and status.title == title and status.item not in self._aliases:
                self._aliases[status.item] = (item, *status.aliases)
                del self._failed[item]
                return
