"""Match event types with patterns such as ``health.*`` or ``downloads/*``. Pure."""

import dataclasses
import fnmatch
import re
from collections.abc import Sequence
from typing import Final, Self

from mediabus.schemas.subjects import EVENTS_SUBJECTS, filter_for

_PATTERN: Final = re.compile(r"(?:([a-z_*]+)/)?([A-Za-z0-9_.*?-]+)")
_WILD: Final = re.compile(r"[*?]")


@dataclasses.dataclass(frozen=True)
class Pattern:
    """``type``, or ``category/type``; both take the wildcards ``*`` and ``?``."""

    category: str
    type: str

    @classmethod
    def of(cls, text: str) -> Self:
        """Parse a pattern. Raises ValueError."""
        found = _PATTERN.fullmatch(text)
        if found is None:
            raise ValueError(
                f"{text!r} matches no event type: use, for example, download.failed, health.* or "
                "downloads/*"
            )
        return cls(found[1] or "*", found[2])

    def matches(self, category: str, event_type: str) -> bool:
        """Return whether an event of this category and type matches."""
        return fnmatch.fnmatchcase(event_type, self.type) and fnmatch.fnmatchcase(
            category, self.category
        )

    @property
    def subjects(self) -> str:
        """The narrowest NATS filter for these events; it may let others pass, too."""
        category = None if _WILD.search(self.category) else self.category
        resource, _, action = self.type.partition(".")
        if _WILD.search(resource):
            return filter_for(category=category)
        if not action or _WILD.search(action):
            return filter_for(category=category, event_type=resource)
        return filter_for(category=category, event_type=self.type)


def filters(patterns: Sequence[Pattern]) -> list[str]:
    """Return NATS filters for all patterns. JetStream refuses filters that overlap."""
    wanted: list[str] = []
    for subjects in sorted({pattern.subjects for pattern in patterns}, key=len):
        if not any(_holds(other, subjects) for other in wanted):
            wanted.append(subjects)
    overlap = any(
        _overlap(one, other) for at, one in enumerate(wanted) for other in wanted[at + 1 :]
    )
    return [EVENTS_SUBJECTS] if overlap else wanted


def _holds(wide: str, narrow: str) -> bool:
    """Return whether every subject of ``narrow`` matches ``wide``."""
    theirs = narrow.split(".")
    tokens = wide.split(".")
    for at, part in enumerate(tokens):
        if part == ">":
            return len(theirs) > at
        if at >= len(theirs) or theirs[at] == ">" or part not in {"*", theirs[at]}:
            return False
    return len(tokens) == len(theirs)


def _overlap(one: str, other: str) -> bool:
    """Return whether a subject can match both filters."""
    for first, second in zip(one.split("."), other.split("."), strict=False):
        if ">" in {first, second}:
            return True
        if first != second and "*" not in {first, second}:
            return False
    return one.count(".") == other.count(".")
