"""Which events a target gets. Pure."""

import dataclasses
from collections.abc import Callable
from typing import Final

from mediabus.consumers.notifier.patterns import Pattern
from mediabus.schemas.envelope import Envelope
from mediabus.schemas.events import Severity

LEVELS: Final[dict[Severity, int]] = {"info": 0, "warning": 1, "error": 2}

IMPORTED: Final = "imported"
"""The CloudEvents extension attribute of events that were read from the history of an application.
They happened before mediabus ran, so they notify no target."""

OWN: Final = "notification."
NEVER: Final = {"notification.delivered", "notification.failed"}
"""The types of events that would cause a message about each message."""


def is_at_least(severity: Severity, least: Severity) -> bool:
    """Return whether a severity is ``least`` or worse."""
    return LEVELS[severity] >= LEVELS[least]


def anything(_: Envelope) -> bool:
    """Match every event."""
    return True


@dataclasses.dataclass(frozen=True, kw_only=True)
class Rule:
    """The events of a target: any pattern, at least the severity, and the filter ``where``."""

    target: str
    patterns: tuple[Pattern, ...]
    severity: Severity = "info"
    where: Callable[[Envelope], bool] = anything

    def matches(self, envelope: Envelope) -> bool:
        """Return whether the target gets a message about an event."""
        return (
            any(self._matches(pattern, envelope) for pattern in self.patterns)
            and is_at_least(envelope.severity, self.severity)
            and not envelope.extensions.get(IMPORTED)
            and self.where(envelope)
        )

    def _matches(self, pattern: Pattern, envelope: Envelope) -> bool:
        """Match a type. Events of targets must be named, and are not sent to that target."""
        if not pattern.matches(envelope.category, envelope.type):
            return False
        if not envelope.type.startswith(OWN):
            return True
        is_own = envelope.fields().get("target") == self.target
        return envelope.type not in NEVER and pattern.type.startswith(OWN) and not is_own
