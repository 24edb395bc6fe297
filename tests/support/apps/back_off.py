"""When an application stops sending to a connection that fails, and for how long.

Each webhook is sent once. While a connection is disabled, its webhooks are dropped.
"""

import datetime

PERIODS = (0, 60, 5 * 60, 15 * 60, 30 * 60, 60 * 60)
"""Seconds that a connection is disabled, by level."""
GRACE = datetime.timedelta(minutes=5)
"""After its first failure, a connection is not disabled for this time."""
STARTUP_GRACE = datetime.timedelta(minutes=15)
"""After the application has started, failures do not raise the level for this time."""


class BackOff:
    """The state of one connection. It is in the database and survives restarts."""

    def __init__(self) -> None:
        self.level = 0
        self.disabled_until: datetime.datetime | None = None
        self._first_failure: datetime.datetime | None = None

    def is_disabled(self, now: datetime.datetime) -> bool:
        return self.disabled_until is not None and now < self.disabled_until

    def record_success(self) -> None:
        if self.level:
            self.level -= 1
            self.disabled_until = None

    def record_failure(self, now: datetime.datetime, started_at: datetime.datetime) -> None:
        if self.level == 0 or self._first_failure is None:
            self._first_failure, self.level = now, 1
            return
        if now < self._first_failure + GRACE:
            return
        if now >= started_at + STARTUP_GRACE:
            self.level = min(len(PERIODS) - 1, self.level + 1)
        self.disabled_until = now + datetime.timedelta(seconds=PERIODS[self.level])
