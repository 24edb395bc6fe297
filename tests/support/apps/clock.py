"""A clock that a test can move forward, so that no test waits for a back-off."""

import datetime


class Clock:
    """The time of one application."""

    def __init__(self) -> None:
        self._offset = datetime.timedelta()

    def now(self) -> datetime.datetime:
        return datetime.datetime.now(datetime.UTC) + self._offset

    def advance(self, **units: float) -> None:
        """Move forward by a ``timedelta`` of these units."""
        self._offset += datetime.timedelta(**units)
