"""What a client shows beside what the bucket says of it: which keys are to be written, which to go.

Pure: time comes in as seconds of a monotonic clock.
"""

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Final, assert_never

from schemas.status import DownloadStatus, ItemId
from service.clients.port import Delta, Observation, Snapshot

LOOKS_BEFORE_GONE: Final = 2
"""Looks that must all miss a download: after a restart some clients list nothing for a moment."""


@dataclasses.dataclass
class _Missing:
    since: float
    looks: int = 1


class Mirror:
    """One client's downloads, as shown and as written. ``removed_after`` in seconds."""

    def __init__(self, removed_after: float) -> None:
        self._removed_after = removed_after
        self._shown: dict[ItemId, DownloadStatus] = {}
        self._written: dict[ItemId, DownloadStatus | None] = {}
        self._changed: set[ItemId] = set()
        self._missing: dict[ItemId, _Missing] = {}
        self._gone: set[ItemId] = set()

    def start_with(self, written: Mapping[ItemId, DownloadStatus]) -> None:
        """Takes what the bucket says as written, and nothing as shown."""
        self._written = dict(written)
        self._changed = set(self._shown)

    def expect(self, items: Iterable[ItemId]) -> None:
        """Counts items as the client's to have: it will be noticed that it has not."""
        for item in items:
            if item not in self._shown and item not in self._gone:
                self._written.setdefault(item, None)

    def take(self, seen: Observation, now: float) -> None:
        """Takes in what the client shows."""
        match seen:
            case Snapshot(items):
                shown = {status.item: status for status in items}
                self._note(shown, self._shown.keys() - shown.keys())
            case Delta(changed, removed):
                self._note({status.item: status for status in changed}, removed)
                self._gone.update(item for item in removed if item in self._written)
            case _:
                assert_never(seen)
        self._look_for_missing(now)

    def amend(self, statuses: Iterable[DownloadStatus]) -> None:
        """Takes in what is known beyond what the client shows."""
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

    def _look_for_missing(self, now: float) -> None:
        absent = self._written.keys() - self._shown.keys() - self._gone
        for item in self._missing.keys() - absent:
            del self._missing[item]
        for item in absent:
            missing = self._missing.get(item)
            if missing is None:
                self._missing[item] = _Missing(since=now)
                continue
            missing.looks += 1
            lasted = now - missing.since >= self._removed_after
            if missing.looks >= LOOKS_BEFORE_GONE and lasted:
                self._gone.add(item)
                del self._missing[item]

    def is_waiting(self) -> bool:
        """Whether something is missing and not yet gone: worth another look soon."""
        return bool(self._missing)

    def shown(self) -> Iterable[DownloadStatus]:
        """All that the client shows."""
        return self._shown.values()

    def to_write(self) -> list[DownloadStatus]:
        """The statuses that the bucket does not have yet."""
        return [self._shown[item] for item in self._changed]

    def to_delete(self) -> list[ItemId]:
        """The items whose keys are to go."""
        return list(self._gone)

    def wrote(self, status: DownloadStatus) -> None:
        """The bucket now has this status."""
        self._written[status.item] = status
        if self._shown.get(status.item) == status:
            self._changed.discard(status.item)

    def deleted(self, item: ItemId) -> None:
        """The bucket no longer has this item."""
        self._gone.discard(item)
        self._written.pop(item, None)
