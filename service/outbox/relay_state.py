"""State of the relay in this process, shown by `mediabus doctor`."""

import dataclasses
import datetime


@dataclasses.dataclass
class RelayState:
    """Backlog and last error of the relay.

    ``waiting`` is the number of events that are recorded and not confirmed. ``reason`` is why NATS
    has not accepted events since ``failing_since``; both are None while the relay publishes.
    """

    waiting: int = 0
    failing_since: datetime.datetime | None = None
    reason: str | None = None

    def failed(self, reason: str) -> None:
        """Note that NATS did not accept events."""
        self.failing_since = self.failing_since or datetime.datetime.now(datetime.UTC)
        self.reason = reason

    def succeeded(self) -> None:
        """Note that NATS accepted the events, or that there were none."""
        self.failing_since = self.reason = None

    def as_json(self) -> dict[str, int | str | None]:
        """Return the state for the statistics of a NATS service."""
        since = self.failing_since.isoformat() if self.failing_since else None
        return {"waiting": self.waiting, "failing_since": since, "reason": self.reason}


RELAY: RelayState = RelayState()
"""The state of this process; a module global, like the metrics."""
