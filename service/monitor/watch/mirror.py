"""Compare the downloads that a client lists with the bucket: which keys to write, which to delete.

Pure: times are seconds of a monotonic clock.
"""

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Final, assert_never

from mediabus.schemas.status import DownloadStatus, ItemId
from mediabus.service.clients.port import Delta, Observation, Snapshot

POLLS_BEFORE_GONE: Final = 2
"""Consecutive polls that must miss a download: some clients list nothing right after a restart."""


@dataclasses.dataclass
class _Missing:
    since: float
    polls: int = 1


class Mirror:
    """The downloads of one client, as listed and as written.

    A download is gone after it was missing for ``removed_after`` seconds.
    """

    def __init__(self, removed_after: float) -> None:
        self._removed_after = removed_after
        self._shown: dict[ItemId, DownloadStatus] = {}
        self._written: dict[ItemId, DownloadStatus | None] = {}
        self._changed: set[ItemId] = set()
        self._missing: dict[ItemId, _Missing] = {}
        self._gone: set[ItemId] = set()

    def start_with(self, written: Mapping[ItemId, DownloadStatus]) -> None:
        """Start from the statuses in the bucket."""
        self._written = dict(written)
        self._changed = set(self._shown)

    def expect(self, items: Iterable[ItemId]) -> None:
        """Expect items in the client: those that it does not list are missing."""
        for item in items:
            if item not in self._shown and item not in self._gone:
                self._written.setdefault(item, None)

    def apply(self, seen: Observation, now: float) -> None:
        """Apply the result of a poll."""
        match seen:
            case Snapshot(items):
                shown = {status.item: status for status in items}
                self._note(shown, self._shown.keys() - shown.keys())
            case Delta(changed, removed):
                self._note({status.item: status for status in changed}, removed)
                self._gone.update(item for item in removed if item in self._written)
            case _:
                assert_never(seen)
        self._find_missing(now)

    def amend(self, statuses: Iterable[DownloadStatus]) -> None:
        """Replace statuses by ones with more details."""
        self._note({status.item: status for status in statuses}, ())

    def _note(self, changed: Mapping[ItemId, DownloadStatus], gone: Iterable[ItemId]) -> None:
        for item in gone:
            self._shown.pop(item, None)
            self._changed.discard(item)
        for item, status in changed.items():
            self._shown[item] = status
            self._gone.discard(item)
            if self._written.get(item) == status:
                self._changed.discard(item)
            else:
                self._changed.add(item)

    def _find_missing(self, now: float) -> None:
        absent = self._written.keys() - self._shown.keys() - self._gone
        for item in self._missing.keys() - absent:
            del self._missing[item]
        for item in absent:
            missing = self._missing.get(item)
            if missing is None:
                self._missing[item] = _Missing(since=now)
                continue
            missing.polls += 1
            lasted = now - missing.since >= self._removed_after
            if missing.polls >= POLLS_BEFORE_GONE and lasted:
                self._gone.add(item)
                del self._missing[item]

    def is_waiting(self) -> bool:
        """Return whether a download is missing and not yet gone: poll again soon."""
        return bool(self._missing)

    def shown(self) -> Iterable[DownloadStatus]:
        """Return all downloads that the client lists."""
        return self._shown.values()

    def has(self, item: ItemId) -> bool:
        """Return whether the client lists this download."""
        return item in self._shown

    def to_write(self) -> list[DownloadStatus]:
        """Return the statuses that are not in the bucket yet."""
        return [self._shown[item] for item in self._changed]

    def to_delete(self) -> list[ItemId]:
        """Return the items whose keys to delete."""
        return list(self._gone)

    def wrote(self, status: DownloadStatus) -> None:
        """Note that the status was written."""
        self._written[status.item] = status
        if self._shown.get(status.item) == status:
            self._changed.discard(status.item)

    def deleted(self, item: ItemId) -> None:
        """Note that the key of an item was deleted."""
        self._gone.discard(item)
        self._written.pop(item, None)
