"""A small graph as an inline SVG: bars for each step, scaled to the largest value."""

from collections.abc import Callable, Sequence
from typing import Final

import msgspec

WIDTH: Final = 360
HEIGHT: Final = 72
"""Units of the SVG, which scales to its place on the page."""

GAP: Final = 1
LEAST: Final = 1.5
"""Height of the smallest bar, so that one event among thousands is visible."""


class Bar(msgspec.Struct, frozen=True):
    """A bar in units of the SVG, with the text that explains it."""

    x: float
    y: float
    width: float
    height: float
    text: str


class Graph(msgspec.Struct, frozen=True, kw_only=True):
    """The bars, and what a screen reader says instead of them."""

    bars: tuple[Bar, ...]
    summary: str
    largest: str
    width: int = WIDTH
    height: int = HEIGHT


def graph(
    values: Sequence[float | None],
    *,
    what: str,
    form: Callable[[float], str],
    label: Callable[[int], str],
) -> Graph:
    """Return a graph. A step without a value has no bar.

    ``form`` writes a value and ``label`` names a step; ``what`` is what the values are.
    """
    known = [value for value in values if value is not None]
    largest = max(known, default=0)
    step = WIDTH / max(len(values), 1)
    bars = tuple(
        _bar(number * step, step, value, largest, f"{label(number)}: {form(value)}")
        for number, value in enumerate(values)
        if value
    )
    now = next((value for value in reversed(values) if value is not None), None)
    summary = (
        f"{what}: none in this time"
        if not known
        else f"{what}: {form(now or 0)} last, at most {form(largest)}"
    )
    return Graph(bars=bars, summary=summary, largest=form(largest))


def _bar(x: float, step: float, value: float, largest: float, text: str) -> Bar:
    height = max(LEAST, (HEIGHT - 2) * value / largest)
    return Bar(round(x, 2), round(HEIGHT - height, 2), round(step - GAP, 2), round(height, 2), text)
