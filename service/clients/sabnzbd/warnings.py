"""The warnings of SABnzbd, which keeps the last 20 warnings and errors until they are cleared."""

import time
from collections import Counter
from collections.abc import Sequence
from typing import Final

from mediabus.service.clients.sabnzbd.rpc import Rpc, Warned, Warnings

FRESH: Final = 30.0
"""Seconds after which the list is requested again although the number of warnings is the same."""

MAIN_PROGRAM: Final = "SABnzbd.py"

SHOWN: Final = 3
"""How many of the newest warnings a message has."""

RELATED: Final = 60
"""Seconds between a failure and the warnings that explain it."""


class WarningList:
    """The warnings of SABnzbd, oldest first."""

    def __init__(self, rpc: Rpc) -> None:
        self._rpc = rpc
        self._known: list[Warned] = []
        self._count = 0
        self._asked_at = 0.0

    async def ask(self) -> list[Warned]:
        """Request all warnings."""
        self._known = (await self._rpc.ask_aside(Warnings(), "warnings")).warnings
        self._count, self._asked_at = len(self._known), time.monotonic()
        return self._known

    async def when_counted(self, count: int) -> list[Warned]:
        """Return all warnings. Requests them only if their number changed or they are old."""
        if not count:
            self._known, self._count = [], 0
        elif count != self._count or time.monotonic() - self._asked_at > FRESH:
            await self.ask()
        return self._known


def shown(warnings: Sequence[Warned]) -> str | None:
    """Return a message with the newest errors, or warnings if there are no errors.

    Each appears once, with its first line.
    """
    errors = [it for it in warnings if it.type == "ERROR"]
    lines = dict.fromkeys(first_line(it) for it in (errors or warnings))
    return "; ".join(list(filter(None, lines))[-SHOWN:]) or None


def of_its_start(warnings: Sequence[Warned]) -> list[Warned]:
    """Return the errors of the main program, such as a missing program that it requires.

    Other errors are about one download or one news server.
    """
    return [it for it in warnings if it.type == "ERROR" and it.origin.startswith(MAIN_PROGRAM)]


def added(before: Sequence[Warned], after: Sequence[Warned]) -> list[Warned]:
    """Return the warnings of ``after`` that are not in ``before``.

    Versions before 2.3 report no time: their warnings always count as new.
    """
    left = Counter(before)
    fresh = []
    for warning in after:
        if left[warning] > 0 and warning.time:
            left[warning] -= 1
        else:
            fresh.append(warning)
    return fresh


def first_line(warning: Warned) -> str:
    """Return the first line of a warning, without the traceback."""
    return next(iter(warning.text.strip().splitlines()), "")
