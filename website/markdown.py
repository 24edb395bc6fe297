"""Small pieces of Markdown that GitHub and the site render alike."""

import re
from collections.abc import Iterable, Iterator
from typing import Final

CODE: Final = re.compile(r"(`[^`]*`)")
"""Code inside a line; splitting by it keeps it."""


def escaped(text: str) -> str:
    """Return plain text with the marks of Markdown escaped, but code left as it is."""
    parts = CODE.split(text)
    return "".join(
        part
        if part.startswith("`") and part.endswith("`")
        else re.sub(r"([*<\[\]])", r"\\\1", part)
        for part in parts
    )


def cell(text: str) -> str:
    """Return text for a cell of a table, on one line."""
    return " ".join(text.split()).replace("|", "\\|")


def table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> Iterator[str]:
    """Yield the lines of a table, and an empty one."""
    yield f"| {' | '.join(head)} |"
    yield f"|{'---|' * len(head)}"
    for row in rows:
        yield f"| {' | '.join(map(cell, row))} |".replace("|  |", "| |")
    yield ""


def fence(language: str, text: str) -> str:
    """Return a block of code."""
    return f"```{language}\n{text.rstrip()}\n```\n"
