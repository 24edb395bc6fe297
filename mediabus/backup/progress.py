"""The progress of a backup or a restore, on stderr: a line for each part, and one every 2 s."""

import time
from collections.abc import Callable
from typing import Final

import click

EVERY: Final = 2.0
"""Seconds between two lines about the same part."""


class Progress:
    """Prints how much of a part, such as a stream or a table, is copied."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._what = ""
        self._total: int | None = None
        self._done = 0
        self._shown_at = 0.0

    def begin(self, what: str, total: int | None = None) -> None:
        """Begin a part, which has ``total`` bytes if that is known."""
        self._what, self._total, self._done = what, total, 0
        self._shown_at = self._clock()

    def add(self, count: int) -> None:
        """Count copied bytes. Prints a line if the last one is 2 s old."""
        self._done += count
        if self._clock() - self._shown_at >= EVERY:
            self._shown_at = self._clock()
            self.note(f"{self._what}: {self._so_far()}")

    def note(self, line: str) -> None:
        """Print a line, indented below the heading of its part."""
        click.echo(f"  {line}", err=True)

    def heading(self, line: str) -> None:
        """Print the name of a stream or database that begins."""
        click.echo(f"{line} …", err=True)

    def _so_far(self) -> str:
        done = f"{self._done / 1e6:.1f}"
        if not self._total:
            return f"{done} MB"
        return f"{done} of {self._total / 1e6:.1f} MB ({100 * self._done // self._total} %)"
